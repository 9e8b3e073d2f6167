/*
description: >-
  How long completed tasks took from creation to the end, by day of creation, for the four types with the most
  tasks.
metrics: [daily_task_stats.p95_turnaround_seconds, daily_task_stats.p95_server_time_seconds]
*/

with in_report as (
    select f.type, f.created_day as day, f.turnaround_seconds, f.server_time_seconds, f.is_moving
    from fact_tasks as f
    cross join scope as s
    where
        f.created_day between s.from_day and s.last_day
        and (f.is_completed or f.is_moving)
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
),

most as (
    select type, count(*) as tasks from in_report group by type order by tasks desc, type limit 4
),

minimums as (
    select
        max(minimum_n) filter (where metric = 'p50_turnaround_seconds') as of_p50,
        max(minimum_n) filter (where metric = 'p95_turnaround_seconds') as of_p95,
        max(minimum_n) filter (where metric = 'p99_turnaround_seconds') as of_p99
    from metrics
    where table_name = 'daily_task_stats'
),

measured as (
    select
        t.day,
        t.type,
        any_value(m.tasks) as tasks_of_type,
        count(t.turnaround_seconds) as completed_tasks,
        quantile_cont(t.turnaround_seconds, [0.5, 0.95, 0.99]) as turnaround,
        count(t.server_time_seconds) as tasks_with_server_time,
        quantile_cont(t.server_time_seconds, 0.95) as server_time,
        count(*) filter (where t.is_moving) = 0 as is_mature
    from in_report as t
    inner join most as m on t.type = m.type
    group by t.day, t.type
)

select
    day,
    type,
    completed_tasks,
    case when completed_tasks >= of_p50 then turnaround[1] end as p50_turnaround_seconds,
    case when completed_tasks >= of_p95 then turnaround[2] end as p95_turnaround_seconds,
    case when completed_tasks >= of_p99 then turnaround[3] end as p99_turnaround_seconds,
    case when tasks_with_server_time >= of_p95 then server_time end as p95_server_time_seconds,
    is_mature
from measured
cross join minimums
order by tasks_of_type desc, type, day desc
