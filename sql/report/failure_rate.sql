/*
description: >-
  How often tasks fail, by the day on which they were created: the rate, its 95 % confidence band, and the rate of
  the seven days up to the day with its band. The band is Wilson's score interval: see the macro wilson.
metrics: [daily_task_stats.failure_rate, daily_task_stats.platform_fault_rate]
section: Failures
place: 30
caption: Failure rate by day of creation, with its 95 % confidence band
columns:
  - day
  - failed_tasks
  - ended_tasks
  - failure_rate
  - low_failure_rate
  - high_failure_rate
  - failure_rate_of_7_days
  - platform_fault_rate
  - is_mature
charts:
  - kind: dots
    heading: Failure rate by day of creation
    title: failed / ended tasks
    fields: {failure_rate: blue, failure_rate_of_7_days: red}
    labels: {failure_rate: 'day, 95 % band', failure_rate_of_7_days: 7 days up to the day}
    band: [low_failure_rate, high_failure_rate]
    tooltip: [failed_tasks, ended_tasks, is_mature]
    height: 220
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
),

weeks as (
    select w.* from scope as s cross join lateral (from compare_periods(s.last_day, 7, 7, s.account, s.type)) as w where w.is_total
),

of_day_before as (
    select w.* from scope as s cross join lateral (from compare_periods(s.last_day, 1, 7, s.account, s.type)) as w where w.is_total
)

select
    b.day,
    b.failed_tasks,
    b.ended_tasks,
    b.of_day.share as failure_rate,
    b.of_day.low as low_failure_rate,
    b.of_day.high as high_failure_rate,
    b.of_7_days.share as failure_rate_of_7_days,
    case when b.ended_tasks >= b.minimum_n then b.platform_fault_tasks / b.ended_tasks end as platform_fault_rate,
    b.is_mature,
    w.failure_rate as rate_of_week,
    w.failure_rate_before as rate_of_week_before,
    y.failure_rate as rate_of_day,
    y.failure_rate_before as rate_of_day_before,
    case
        when w.failure_rate is null then 'Too few tasks ended in the last 7 days to tell a failure rate'
        when w.failure_rate_before is null then '{rate_of_week:percent} of tasks failed ' || s.last_days
        when w.failure_rate_may_be_chance
            then '{rate_of_week:percent} of tasks failed ' || s.last_days
                || '; {rate_of_week_before:percent} in the 7 before is within chance'
        else 'Failure rate ' || case when w.failure_rate > w.failure_rate_before then 'rose' else 'fell' end
            || ' to {rate_of_week:percent} ' || s.last_days || ', from {rate_of_week_before:percent} in the 7 before'
    end
    || case
        when w.failure_rate is not null and y.failure_rate is not null and y.failure_rate_before is not null
            then '; {last_day:day} {rate_of_day:percent}, a week before {rate_of_day_before:percent}'
        else ''
    end as finding,
    'A dot is a day with its 95 % confidence band; hollow while tasks of the day are still moving.' as note
from bands as b
cross join scope as s
left join weeks as w on true
left join of_day_before as y on true
where b.is_in_report
order by b.day desc
