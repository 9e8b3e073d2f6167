/*
description: >-
  How often tasks fail, by the day on which they were created: the rate, its 95 % confidence band, and the rate of
  the seven days up to the day with its band. The band is Wilson's score interval: see the macro wilson.
metrics: [daily_task_stats.failure_rate, daily_task_stats.platform_fault_rate]
*/

with daily as (
    select
        d.day,
        d.is_in_report,
        coalesce(sum(t.failed_tasks), 0)::bigint as failed_tasks,
        coalesce(sum(t.ended_tasks), 0)::bigint as ended_tasks,
        coalesce(sum(t.platform_fault_tasks), 0)::bigint as platform_fault_tasks,
        coalesce(bool_and(t.is_mature), true) as is_mature
    from days as d
    cross join scope as s
    left join daily_task_stats as t
        on d.day = t.day and t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    group by d.day, d.is_in_report
),

weekly as (
    select
        *,
        sum(failed_tasks) over seven_days as failed_tasks_of_7_days,
        sum(ended_tasks) over seven_days as ended_tasks_of_7_days,
        (select minimum_n from metrics where table_name = 'daily_task_stats' and metric = 'failure_rate') as minimum_n
    from daily
    window seven_days as (order by day rows between 6 preceding and current row)
),

bands as (
    select
        *,
        case when ended_tasks >= minimum_n then wilson(failed_tasks, ended_tasks) end as of_day,
        case
            when ended_tasks_of_7_days >= minimum_n then wilson(failed_tasks_of_7_days, ended_tasks_of_7_days)
        end as of_7_days
    from weekly
)

select
    day,
    failed_tasks,
    ended_tasks,
    of_day.share as failure_rate,
    of_day.low as low_failure_rate,
    of_day.high as high_failure_rate,
    of_7_days.share as failure_rate_of_7_days,
    of_7_days.low as low_failure_rate_of_7_days,
    of_7_days.high as high_failure_rate_of_7_days,
    case when ended_tasks >= minimum_n then platform_fault_tasks / ended_tasks end as platform_fault_rate,
    is_mature
from bands
where is_in_report
order by day desc
