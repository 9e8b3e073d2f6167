/*
description: >-
  Tasks that are open and have been silent for longer than the thresholds of the settings, the longest silent first.
*/

select
    f.task_id,
    f.account,
    f.type,
    f.phase,
    f.created_at,
    t.updated_at as last_change_at,
    epoch(a.known_until_at - t.updated_at) as silent_seconds,
    t.asset_name,
    count(*) over () as of_tasks
from fact_tasks as f
inner join tasks as t on f.task_id = t.task_id
inner join freshness as a on f.account = a.account
cross join scope as s
where f.is_stuck and f.account = coalesce(s.account, f.account) and f.type = coalesce(s.type, f.type)
order by silent_seconds desc, f.task_id
limit 50
