/*
description: >-
  How long completed tasks took from creation to the end, by day of creation, for the four types with the most
  tasks; of each type also the seven days up to the last beside the seven before: see the macro compare_periods.
metrics: [daily_task_stats.p95_turnaround_seconds, daily_task_stats.p95_server_time_seconds]
section: Durations
place: 40
caption: Durations by day of creation and type
columns:
  - day
  - type
  - completed_tasks
  - p50_turnaround_seconds
  - p95_turnaround_seconds
  - p99_turnaround_seconds
  - p95_server_time_seconds
  - is_mature
opening: 'p95 turnaround of the last 7 days beside the 7 before: '
otherwise: No task completed in these days.
charts:
  - kind: lines
    facet: type
    heading: '{type}'
    scale: log
    fields: {p50_turnaround_seconds: blue, p95_turnaround_seconds: orange dashed, p99_turnaround_seconds: red dotted}
    tooltip: [completed_tasks, is_mature]
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
        count(t.turnaround_seconds) as completed_tasks,
        quantile_cont(t.turnaround_seconds, [0.5, 0.95, 0.99]) as turnaround,
        count(t.server_time_seconds) as tasks_with_server_time,
        quantile_cont(t.server_time_seconds, 0.95) as server_time,
        count(*) filter (where t.is_moving) = 0 as is_mature
    from in_report as t
    where t.type in (select type from most)
    group by t.day, t.type
),

weeks as (
    select w.* from scope as s cross join lateral (from compare_periods(s.last_day, 7, 7, s.account, s.type)) as w where not w.is_total
)

select
    d.day,
    k.type,
    coalesce(t.completed_tasks, 0) as completed_tasks,
    case when t.completed_tasks >= m.of_p50 then t.turnaround[1] end as p50_turnaround_seconds,
    case when t.completed_tasks >= m.of_p95 then t.turnaround[2] end as p95_turnaround_seconds,
    case when t.completed_tasks >= m.of_p99 then t.turnaround[3] end as p99_turnaround_seconds,
    case when t.tasks_with_server_time >= m.of_p95 then t.server_time end as p95_server_time_seconds,
    coalesce(t.is_mature, true) as is_mature,
    w.completed_tasks as n,
    w.completed_tasks_before as n_before,
    w.p95_turnaround_seconds as p95,
    w.p95_turnaround_seconds_before as p95_before,
    abs(w.p95_turnaround_seconds / w.p95_turnaround_seconds_before - 1) as changed,
    case
        when w.p95_turnaround_seconds is null or w.p95_turnaround_seconds_before is null then '{type} cannot be compared yet'
        else '{type} '
            || case
                when changed < 0.005 then 'as before'
                else format('{:,}', round(100 * changed)::bigint) || ' % '
                    || case when w.p95_turnaround_seconds > w.p95_turnaround_seconds_before then 'slower' else 'faster' end
                    || case when w.p95_turnaround_seconds_may_be_chance then ', which may be chance' else '' end
            end
            || format(' ({:,} and {:,} tasks)', w.completed_tasks, w.completed_tasks_before)
    end as finding,
    case
        when w.p95_turnaround_seconds is null then '{type}: too few tasks completed in the last 7 days for a p95'
        else '{type}: p95 of {p95:duration} in the last 7 days, of {n:count task}'
    end as heading,
    'Created to finished, by day of creation, on a logarithmic scale; of uploads it includes the user''s upload.' as note
from days as d
cross join most as k
cross join minimums as m
left join measured as t on d.day = t.day and k.type = t.type
left join weeks as w on k.type = w.type
where d.is_in_report
order by k.tasks desc, k.type, d.day desc
