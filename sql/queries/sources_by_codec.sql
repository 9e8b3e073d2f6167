-- What comes in: completed tasks by video codec and height of the source, with their speed. Failed tasks have no probe.
select
    r.codec, r.height,
    count(*) as completed_tasks,
    cast(percentile_cont(0.5) within group (order by d.media_duration_seconds) as bigint) as p50_media_seconds,
    round(percentile_cont(0.5) within group (order by d.real_time_factor), 3) as p50_real_time_factor,
    round(percentile_cont(0.95) within group (order by d.real_time_factor), 3) as p95_real_time_factor
from fact_tasks as d
inner join tracks as r using (task_id)
where r.type = 'video' and d.is_completed
group by all
order by completed_tasks desc
limit 30
