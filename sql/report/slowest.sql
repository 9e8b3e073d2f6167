/*
description: 'The completed tasks of the last seven days that took the server longest: scheduled to finished.'
section: Slow and stuck tasks
place: 80
caption: The slowest completed tasks of the last 7 days
otherwise: No task completed in the last 7 days.
*/

with slowest as (
    select
        f.task_id,
        f.account,
        f.type,
        f.finished_at,
        f.server_time_seconds,
        f.turnaround_seconds,
        f.media_duration_seconds,
        f.real_time_factor
    from fact_tasks as f
    cross join scope as s
    where
        f.is_completed
        and f.finished_day between s.last_day - 6 and s.last_day
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
        and f.server_time_seconds is not null
    order by f.server_time_seconds desc, f.task_id
    limit 15
)

select
    f.*,
    t.asset_name,
    'The slowest of the last 7 days took the server {server_time_seconds:duration}' as finding,
    '`task-archive task {task_id}` shows all that is known of a task.' as note
from slowest as f
inner join tasks as t on f.task_id = t.task_id
order by f.server_time_seconds desc, f.task_id
