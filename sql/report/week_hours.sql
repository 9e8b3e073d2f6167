/*
description: >-
  When tasks come: tasks created in each hour of the week, in the report's time zone, the median and the mean over its
  weeks. One burst moves the mean, not the median.
section: Load
place: 61
caption: Tasks created by weekday and hour
columns: [weekday, hour, created_tasks, days, median_tasks, mean_tasks]
otherwise: The hours of the week can be told apart once there are tasks of a whole week.
charts:
  - kind: heat
    heading: Tasks created by weekday and hour
    title: tasks an hour
    x: hour
    y: weekday
    fields: {median_tasks: blue}
    tooltip: [mean_tasks, created_tasks, days]
    height: 190
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
),

of_week as (
    select
        isodow(h.day) as number,
        ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][isodow(h.day)] as weekday,
        h.hour,
        coalesce(sum(c.tasks), 0)::bigint as created_tasks,
        count(*) as days,
        median(coalesce(c.tasks, 0)) as median_tasks,
        coalesce(sum(c.tasks), 0) / count(*) as mean_tasks
    from hours as h
    left join created as c on h.day = c.day and h.hour = c.hour
    group by isodow(h.day), h.hour
),

ends as (
    select
        max_by({'at': weekday || ' at ' || lpad(hour::varchar, 2, '0') || ':00', 'tasks': median_tasks}, (median_tasks, -number, -hour)) as most,
        min_by({'at': weekday || ' at ' || lpad(hour::varchar, 2, '0') || ':00', 'tasks': median_tasks}, (median_tasks, number, hour)) as least,
        sum(created_tasks) as created_tasks,
        count(*) as hours_of_week
    from of_week
)

select
    w.weekday,
    w.hour,
    w.created_tasks,
    w.days,
    w.median_tasks,
    w.mean_tasks,
    e.most.at as most_at,
    e.most.tasks as most_tasks,
    e.least.at as least_at,
    e.least.tasks as least_tasks,
    case
        when e.most.tasks = 0 then 'No hour of the week usually has a task'
        else 'Usually most tasks come {most_at}, {most_tasks:number} an hour; fewest {least_at}, {least_tasks:number} (medians)'
    end as finding,
    'Median of the tasks created in each hour of the week, in {time_zone}.' as note
from of_week as w
cross join ends as e
where e.created_tasks > 0 and e.hours_of_week = 7 * 24
order by w.number, w.hour
