/*
description: >-
  How much is processed: completed tasks, media minutes and source gigabytes by day (UTC), the last 14 days with
  work.
*/

select
    cast(hour_at as date) as day,
    sum(completed_tasks) as completed_tasks,
    round(sum(media_minutes)) as media_minutes,
    round(sum(source_bytes) / 1e9, 1) as source_gigabytes,
    max(completed_tasks_in_hour) as busiest_hour_tasks,
    sum(implausible_tasks) as implausible_tasks
from (
    select *, sum(completed_tasks) over (partition by hour_at) as completed_tasks_in_hour from hourly_throughput
)
group by all
order by day desc
limit 14
