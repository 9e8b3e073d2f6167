/*
description: >-
  A proof is broken: the server counts more tasks than the newest sweep, or the newest load of changes, read. Rows
  may be missing. Left out are backfills and refreshes, as whoever asks for one sees what came of it, and loads that
  were interrupted, whose place a later one takes.
severity: alarm
command: task-archive verify
*/

select
    account || ' ' || if(lane = 'sweep', 'sweep', 'changes') as subject,
    format('{}: {} {} read {:,} tasks; the server counts more', account, lane, load_id, tasks_seen)
    || coalesce(format(', {:,}', server_count_after), '') as summary,
    array_to_string(reasons, '; ') as quote,
    greatest(coalesce(server_count_after - tasks_seen, 1), 1) as score,
    load_id,
    lane,
    tasks_seen,
    server_count_after
from (
    from loads
    where lane in ('sweep', 'changes', 'observe') and coalesce(reasons[1], '') not like 'interrupted;%'
    qualify row_number() over (partition by account, lane = 'sweep' order by load_id desc) = 1
)
where verdict = 'broken'
order by score desc, subject
