/*
description: >-
  A proof has a gap: the newest sweep, or the newest load of changes, is whole but for what its reasons name, such
  as tasks that the server cannot serve.
severity: notice
command: task-archive query last_loads
*/

select
    account || ' ' || if(lane = 'sweep', 'sweep', 'changes') as subject,
    format('{}: the proof of {} {} has a gap', account, lane, load_id) as summary,
    array_to_string(reasons, '; ') as quote,
    greatest(len(missing_tasks), 1) as score,
    load_id,
    lane,
    tasks_seen,
    len(missing_tasks) as missing_tasks
from (
    from loads
    where lane in ('sweep', 'changes', 'observe') and coalesce(reasons[1], '') not like 'interrupted;%'
    qualify row_number() over (partition by account, lane = 'sweep' order by load_id desc) = 1
)
where verdict = 'limited'
order by score desc, subject
