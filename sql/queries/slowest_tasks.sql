/*
description: The completed tasks that took the server longest.
*/

with slowest as (
    select task_id, type, finished_at, server_time_seconds, media_duration_seconds, real_time_factor
    from fact_tasks
    where is_completed
    order by server_time_seconds desc nulls last
    limit 20
)

select d.*, t.asset_name
from slowest as d
inner join tasks as t using (task_id)
order by d.server_time_seconds desc nulls last
