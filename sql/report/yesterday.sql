/*
description: >-
  The last whole day beside the same weekday of the week before, by type and for all types together: see the macro
  compare_periods. Media minutes are of the tasks that were completed on the day.
metrics: [daily_task_stats.failure_rate, daily_task_stats.p95_turnaround_seconds, hourly_throughput.media_minutes]
section: By type
place: 10
caption: The last day and the same weekday before, by type
columns:
  - type
  - created_tasks
  - created_tasks_before
  - ended_tasks
  - failure_rate
  - failure_rate_before
  - completed_tasks
  - p95_turnaround_seconds
  - p95_turnaround_seconds_before
  - media_minutes
  - media_minutes_before
otherwise: No task was created or completed on these days.
*/

with done as (
    select
        case when grouping(f.type) = 1 then 'all types' else f.type end as type,
        grouping(f.type) = 1 as is_total,
        sum(cast(round(f.media_duration_seconds * 1000) as bigint)) filter (where f.finished_day = s.last_day) / 60000 as media_minutes,
        sum(cast(round(f.media_duration_seconds * 1000) as bigint)) filter (where f.finished_day = s.week_before) / 60000 as media_minutes_before,
        count(f.media_duration_seconds) filter (where f.finished_day = s.last_day) as tasks_with_duration,
        count(f.media_duration_seconds) filter (where f.finished_day = s.week_before) as tasks_with_duration_before
    from fact_tasks as f
    cross join scope as s
    where
        f.is_completed
        and f.finished_day in (s.last_day, s.week_before)
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
    group by grouping sets ((f.type), ())
)

select
    coalesce(p.type, d.type) as type,
    coalesce(p.is_total, d.is_total) as is_total,
    coalesce(p.created_tasks, 0) as created_tasks,
    coalesce(p.created_tasks_before, 0) as created_tasks_before,
    coalesce(p.failed_tasks, 0) as failed_tasks,
    coalesce(p.ended_tasks, 0) as ended_tasks,
    p.failure_rate,
    p.failure_rate_before,
    p.failure_rate_may_be_chance,
    coalesce(p.completed_tasks, 0) as completed_tasks,
    p.p95_turnaround_seconds,
    p.p95_turnaround_seconds_before,
    p.p95_turnaround_seconds_may_be_chance,
    d.media_minutes,
    d.media_minutes_before,
    coalesce(d.tasks_with_duration, 0) as tasks_with_duration,
    coalesce(d.tasks_with_duration_before, 0) as tasks_with_duration_before,
    count(*) filter (where not coalesce(p.is_total, d.is_total) and p.created_tasks > 0) over () as types,
    case coalesce(p.created_tasks, 0)
        when 0 then 'No task was created on {last_day:day}.'
        when 1 then '{created_tasks:count task} of {types:count type} was created on {last_day:day}.'
        else '{created_tasks:count task} of {types:count type} were created on {last_day:day}.'
    end as finding
from (select p.* from scope as s cross join lateral (from compare_periods(s.last_day, 1, 7, s.account, s.type)) as p) as p
full join done as d on p.type = d.type and p.is_total = d.is_total
order by is_total desc, created_tasks desc, type
