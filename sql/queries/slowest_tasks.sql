-- The completed tasks that took the server longest.
select d.task_id, d.type, d.finished_at, d.server_time_seconds, d.media_duration_seconds, d.real_time_factor, t.asset_name
from fact_tasks as d
inner join tasks as t using (task_id)
where d.is_completed
order by d.server_time_seconds desc nulls last
limit 20
