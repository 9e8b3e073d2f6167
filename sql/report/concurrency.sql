/*
description: >-
  How many tasks were under way at once, by day: the most and the mean, beside the limit of the settings. All types
  together; of several accounts the sum of what each had in the same hour.
metrics: [capacity.peak_concurrent_tasks, capacity.mean_concurrent_tasks, capacity.share_of_limit]
*/

with hours as (
    select
        c.hour_at,
        sum(c.peak_concurrent_tasks) as peak_concurrent_tasks,
        sum(c.mean_concurrent_tasks) as mean_concurrent_tasks,
        sum(c.concurrency_limit) as concurrency_limit
    from capacity as c
    cross join scope as s
    where c.account = coalesce(s.account, c.account) and s.type is null
    group by c.hour_at
),

daily as (
    select
        cast(timezone(s.time_zone, h.hour_at) as date) as day,
        max(h.peak_concurrent_tasks)::bigint as peak_concurrent_tasks,
        avg(h.mean_concurrent_tasks) as mean_concurrent_tasks,
        max(h.concurrency_limit)::bigint as concurrency_limit
    from hours as h
    cross join scope as s
    group by all
)

select t.*, t.peak_concurrent_tasks / t.concurrency_limit as share_of_limit
from days as d
inner join daily as t on d.day = t.day
where d.is_in_report
order by d.day desc
