/*
description: >-
  Tasks that are open and have been silent for longer than the thresholds of the settings, the longest silent first.
section: Slow and stuck tasks
place: 81
caption: Tasks that are stuck
columns: [task_id, account, type, phase, created_at, last_change_at, silent_seconds, asset_name]
otherwise: No task is stuck.
*/

with stuck as (
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
)

select
    *,
    case of_tasks when 1 then '1 task is' else '{of_tasks:count task} are' end
    || ' stuck, silent for up to {silent_seconds:duration}' as finding,
    '`task-archive refresh {task_id}` asks the API for one of them again.'
    || case when of_tasks > 50 then ' The 50 longest silent are shown.' else '' end as note
from stuck
order by silent_seconds desc, task_id
