/*
description: The last whole day beside the same weekday of the week before, by type and for all types together.
metrics: [daily_task_stats.failure_rate, daily_task_stats.p95_turnaround_seconds, hourly_throughput.media_minutes]
*/

with of_days as (
    select
        f.*,
        f.created_day = s.last_day as is_created_then,
        f.created_day = s.week_before as is_created_before,
        f.finished_day = s.last_day and f.is_completed as is_done_then,
        f.finished_day = s.week_before and f.is_completed as is_done_before
    from fact_tasks as f
    cross join scope as s
    where
        (f.created_day in (s.last_day, s.week_before) or f.finished_day in (s.last_day, s.week_before))
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
),

counted as (
    select
        case when grouping(type) = 1 then 'all types' else type end as type,
        grouping(type) = 1 as is_total,
        count(*) filter (where is_created_then) as created_tasks,
        count(*) filter (where is_created_before) as created_tasks_before,
        count(*) filter (where is_created_then and is_failed) as failed_tasks,
        count(*) filter (where is_created_before and is_failed) as failed_tasks_before,
        count(*) filter (where is_created_then and is_ended) as ended_tasks,
        count(*) filter (where is_created_before and is_ended) as ended_tasks_before,
        count(*) filter (where is_created_then and is_completed) as completed_tasks,
        count(*) filter (where is_created_before and is_completed) as completed_tasks_before,
        percentile_cont(0.95) within group (order by turnaround_seconds) filter (where is_created_then and is_completed) as p95,
        percentile_cont(0.95) within group (order by turnaround_seconds) filter (where is_created_before and is_completed) as p95_before,
        sum(cast(round(media_duration_seconds * 1000) as bigint)) filter (where is_done_then) / 60000 as media_minutes,
        sum(cast(round(media_duration_seconds * 1000) as bigint)) filter (where is_done_before) / 60000 as media_minutes_before,
        count(media_duration_seconds) filter (where is_done_then) as tasks_with_duration,
        count(media_duration_seconds) filter (where is_done_before) as tasks_with_duration_before,
        count(*) filter (where is_created_then and is_moving) = 0 as is_mature
    from of_days
    group by grouping sets ((type), ())
),

minimums as (
    select
        max(minimum_n) filter (where metric = 'failure_rate') as of_rate,
        max(minimum_n) filter (where metric = 'p95_turnaround_seconds') as of_p95
    from metrics
    where table_name = 'daily_task_stats'
)

select
    type,
    is_total,
    created_tasks,
    created_tasks_before,
    failed_tasks,
    failed_tasks_before,
    ended_tasks,
    ended_tasks_before,
    of_day.share as failure_rate,
    of_day.low as low_failure_rate,
    of_day.high as high_failure_rate,
    of_day_before.share as failure_rate_before,
    of_day_before.low as low_failure_rate_before,
    of_day_before.high as high_failure_rate_before,
    completed_tasks,
    completed_tasks_before,
    case when completed_tasks >= of_p95 then p95 end as p95_turnaround_seconds,
    case when completed_tasks_before >= of_p95 then p95_before end as p95_turnaround_seconds_before,
    media_minutes,
    media_minutes_before,
    tasks_with_duration,
    tasks_with_duration_before,
    is_mature
from (
    select
        *,
        case when ended_tasks >= of_rate then wilson(failed_tasks, ended_tasks) end as of_day,
        case when ended_tasks_before >= of_rate then wilson(failed_tasks_before, ended_tasks_before) end as of_day_before
    from counted
    cross join minimums
)
order by is_total desc, created_tasks desc, type
