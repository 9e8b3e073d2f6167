/*
description: >-
  What was done, by the day on which tasks completed: tasks, media minutes, source bytes, and its busiest hour.
metrics: [hourly_throughput.completed_tasks, hourly_throughput.media_minutes, hourly_throughput.source_bytes]
*/

with done as (
    select
        f.finished_day as day,
        count(*) as completed_tasks,
        cast(coalesce(sum(cast(round(f.media_duration_seconds * 1000) as bigint)), 0) as double) / 60000 as media_minutes,
        coalesce(sum(f.asset_size_bytes), 0)::bigint as source_bytes
    from fact_tasks as f
    cross join scope as s
    where
        f.is_completed
        and f.finished_day between s.from_day and s.last_day
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
    group by f.finished_day
),

hours as (
    select
        cast(timezone(s.time_zone, t.hour_at) as date) as day,
        t.hour_at,
        sum(t.completed_tasks)::bigint as completed_tasks
    from hourly_throughput as t
    cross join scope as s
    where t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    group by all
),

busiest as (
    select day, max(completed_tasks) as busiest_hour_tasks from hours group by day
)

select
    d.day,
    coalesce(t.completed_tasks, 0) as completed_tasks,
    coalesce(t.media_minutes, 0) as media_minutes,
    coalesce(t.source_bytes, 0) as source_bytes,
    coalesce(b.busiest_hour_tasks, 0) as busiest_hour_tasks
from days as d
left join done as t on d.day = t.day
left join busiest as b on d.day = b.day
where d.is_in_report
order by d.day desc
