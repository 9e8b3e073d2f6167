/*
description: >-
  Two periods of days beside each other, by type and for all types together: how often tasks failed and how long the
  slowest twentieth took. The periods are as many whole days long and end on last_day and so many days before it; of an
  account and a type, or of all (null). `from compare_periods(date '2026-11-25', 7, 7, null, 'upload')` compares a week
  with the week before. Whether a difference may be chance: see may_be_chance. The 95 % confidence
  band of a rate is that of wilson; of a quantile p of n values, the values at the ranks n p ± 1.96 √(n p (1 − p)) (W. J.
  Conover, Practical Nonparametric Statistics, 3.2); a band that n is too small for has no upper end.
parameters: [last_day, days_long, days_before, of_account, of_type]
*/

with chosen as (
    select type, created_day > last_day - days_long as is_now, is_failed, is_ended, is_moving, turnaround_seconds, is_completed
    from fact_tasks
    where
        (
            created_day between last_day - days_long + 1 and last_day
            or created_day between last_day - days_before - days_long + 1 and last_day - days_before
        )
        and account = coalesce(of_account, account)
        and type = coalesce(of_type, type)
),

counted as (
    select
        case when grouping(type) = 1 then 'all types' else type end as type,
        grouping(type) = 1 as is_total,
        is_now,
        count(*) as created_tasks,
        count(*) filter (where is_failed) as failed_tasks,
        count(*) filter (where is_ended) as ended_tasks,
        count(*) filter (where is_completed) as completed_tasks,
        list(turnaround_seconds order by turnaround_seconds) filter (where is_completed and turnaround_seconds is not null) as turnarounds,
        quantile_cont(turnaround_seconds, 0.95) filter (where is_completed) as p95,
        count(*) filter (where is_moving) = 0 as is_mature
    from chosen
    group by grouping sets ((type, is_now), (is_now))
),

minimums as (
    select
        max(minimum_n) filter (where metric = 'failure_rate') as of_rate,
        max(minimum_n) filter (where metric = 'p95_turnaround_seconds') as of_p95
    from metrics
    where table_name = 'daily_task_stats'
),

measured as (
    select
        c.*,
        case when c.ended_tasks >= m.of_rate then wilson(c.failed_tasks, c.ended_tasks) end as failures,
        case
            when c.completed_tasks >= m.of_p95
                then {
                    'value': c.p95,
                    'low': c.turnarounds[greatest(floor(len(c.turnarounds) * 0.95 - 1.959964 * sqrt(len(c.turnarounds) * 0.0475)), 1)::bigint],
                    'high': coalesce(
                        c.turnarounds[ceil(len(c.turnarounds) * 0.95 + 1.959964 * sqrt(len(c.turnarounds) * 0.0475))::bigint], 'infinity'
                    )
                }
        end as turnaround
    from counted as c
    cross join minimums as m
),

beside as (
    select
        coalesce(now.type, old.type) as type,
        coalesce(now.is_total, old.is_total) as is_total,
        now,
        old
    from (from measured where is_now) as now
    full join (from measured where not is_now) as old on now.type = old.type and now.is_total = old.is_total
)

select
    type,                                               -- task type; all types for the total
    is_total,                                           -- whether the row is of all types together
    coalesce(now.created_tasks, 0) as created_tasks,    -- tasks created in the period that ends on last_day
    coalesce(old.created_tasks, 0) as created_tasks_before, -- the same of the period before, as all that ends in _before
    coalesce(now.failed_tasks, 0) as failed_tasks,      -- of which failed
    coalesce(old.failed_tasks, 0) as failed_tasks_before, -- as above
    coalesce(now.ended_tasks, 0) as ended_tasks,        -- failed or completed: n of failure_rate
    coalesce(old.ended_tasks, 0) as ended_tasks_before, -- as above
    now.failures.share as failure_rate,                 -- failed / ended tasks; null below 20
    now.failures.low as low_failure_rate,               -- its 95 % band
    now.failures.high as high_failure_rate,             -- its 95 % band
    old.failures.share as failure_rate_before,          -- as above
    old.failures.low as low_failure_rate_before,        -- its 95 % band
    old.failures.high as high_failure_rate_before,      -- its 95 % band
    may_be_chance(
        now.failures.share, now.failures.low, now.failures.high, old.failures.share, old.failures.low, old.failures.high
    ) as failure_rate_may_be_chance,                    -- whether the two may differ by chance
    coalesce(now.completed_tasks, 0) as completed_tasks, -- n of p95_turnaround_seconds
    coalesce(old.completed_tasks, 0) as completed_tasks_before, -- as above
    now.turnaround.value as p95_turnaround_seconds,     -- exact quantile of created to finished, of all completed tasks of the period; null below 20
    old.turnaround.value as p95_turnaround_seconds_before, -- as above
    may_be_chance(
        now.turnaround.value, now.turnaround.low, now.turnaround.high,
        old.turnaround.value, old.turnaround.low, old.turnaround.high
    ) as p95_turnaround_seconds_may_be_chance,          -- whether the two may differ by chance
    coalesce(now.is_mature, true) as is_mature          -- whether no task of the period that ends on last_day is moving
from beside
order by is_total desc, created_tasks desc, type
