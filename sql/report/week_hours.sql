/*
description: >-
  When tasks come: tasks created in each hour of the week, in the report's time zone, the median and the mean over its
  weeks. One burst moves the mean, not the median.
*/

with hours as (
    select d.day, h.hour
    from days as d
    cross join (select unnest(generate_series(0, 23)) as hour) as h
    where d.is_in_report
),

created as (
    select
        f.created_day as day,
        hour(timezone(s.time_zone, f.created_at)) as hour,
        count(*) as tasks
    from fact_tasks as f
    cross join scope as s
    where
        f.created_day between s.from_day and s.last_day
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
    group by all
)

select
    ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][isodow(h.day)] as weekday,
    h.hour,
    coalesce(sum(c.tasks), 0)::bigint as created_tasks,
    count(*) as days,
    median(coalesce(c.tasks, 0)) as median_tasks,
    coalesce(sum(c.tasks), 0) / count(*) as mean_tasks
from hours as h
left join created as c on h.day = c.day and h.hour = c.hour
group by isodow(h.day), h.hour
order by isodow(h.day), h.hour
