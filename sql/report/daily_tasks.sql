/*
description: Tasks by the day on which they were created and what has become of them.
metrics: [daily_task_stats.failure_rate]
section: Volume
place: 20
caption: Tasks by day of creation and what became of them
otherwise: No task was created in these days.
columns: [day, created_tasks, completed_tasks, failed_tasks, open_tasks, other_tasks, is_mature]
charts:
  - kind: stacked
    heading: Tasks by day of creation
    title: tasks created
    fields: {completed_tasks: blue, failed_tasks: red, open_tasks: orange, other_tasks: grey}
    tooltip: [created_tasks, is_mature]
    height: 200
*/

with daily as (
    select
        d.day,
        coalesce(sum(t.created_tasks), 0)::bigint as created_tasks,
        coalesce(sum(t.completed_tasks), 0)::bigint as completed_tasks,
        coalesce(sum(t.failed_tasks), 0)::bigint as failed_tasks,
        coalesce(sum(t.open_tasks), 0)::bigint as open_tasks,
        coalesce(sum(t.other_tasks), 0)::bigint as other_tasks,
        coalesce(bool_and(t.is_mature), true) as is_mature
    from days as d
    cross join scope as s
    left join daily_task_stats as t
        on d.day = t.day and t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    where d.is_in_report
    group by d.day
),

means as (
    select
        avg(d.created_tasks) filter (where d.day > s.last_day - 7) as a_day,
        avg(d.created_tasks) filter (where d.day <= s.last_day - 7 and d.day > s.last_day - 14) as a_day_before,
        count(*) filter (where d.day <= s.last_day - 7 and d.day > s.last_day - 14) as days_before,
        sum(d.created_tasks) as created_tasks
    from daily as d
    cross join scope as s
)

select
    d.*,
    case when m.a_day < 10 then m.a_day else round(m.a_day) end as a_day,
    m.a_day_before,
    '{a_day:number} tasks ' || case when s.from_day < s.last_day then 'a day ' else '' end || 'were created ' || s.last_days
    || case when m.days_before = 7 and m.a_day_before > 0 then ', {a_day:than a_day_before} in the 7 before' else '' end as finding,
    case
        when not first_value(d.is_mature) over (order by d.day desc)
            then 'Paler: tasks of the day are still moving, their outcomes change.'
    end as note
from daily as d
cross join means as m
cross join scope as s
where m.created_tasks > 0
order by d.day desc
