/*
description: >-
  When tasks come: tasks created in each hour of the week, in the report's time zone, a mean over its weeks.
*/

with weekdays as (
    select isodow(day) as weekday, count(*) as days from days where is_in_report group by isodow(day)
),

hours as (
    select w.weekday, w.days, h.hour from weekdays as w cross join (select unnest(generate_series(0, 23)) as hour) as h
),

created as (
    select
        isodow(timezone(s.time_zone, f.created_at)) as weekday,
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
    ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][h.weekday] as weekday,
    h.hour,
    coalesce(c.tasks, 0) as created_tasks,
    h.days,
    coalesce(c.tasks, 0) / h.days as mean_tasks
from hours as h
left join created as c on h.weekday = c.weekday and h.hour = c.hour
order by h.weekday, h.hour
