/*
description: >-
  How the targets of the settings are kept, by day of creation, and over the 28 days up to the day: what is left of
  the error budget, and how many times too fast it burns.
metrics: [slo.attainment, slo.window_attainment, slo.error_budget_left, slo.burn_rate]
section: Targets
place: 50
caption: Tasks done in time by day of creation and type
otherwise: 'No target is set for these tasks: TASK_ARCHIVE_SLO sets one, such as `upload: 95% under 10m`.'
columns:
  - day
  - type
  - target_share
  - target_seconds
  - eligible_tasks
  - good_tasks
  - attainment
  - window_attainment
  - error_budget_left
  - burn_rate
  - is_mature
charts:
  - kind: dots
    facet: type
    heading: '{type}: {target_share:percent} under {target_seconds:duration}'
    title: done in time
    from_zero: false
    fields: {attainment: blue, window_attainment: red, target_share: grey}
    labels: {attainment: day, window_attainment: 28 days up to the day, target_share: target}
    tooltip: [good_tasks, eligible_tasks, error_budget_left, burn_rate, is_mature]
    height: 200
*/

with daily as (
    select
        o.type,
        o.day,
        any_value(o.target_share) as target_share,
        any_value(o.target_seconds) as target_seconds,
        sum(o.eligible_tasks)::bigint as eligible_tasks,
        sum(o.good_tasks)::bigint as good_tasks,
        bool_and(o.is_mature) as is_mature
    from slo as o
    cross join scope as s
    where o.account = coalesce(s.account, o.account) and o.type = coalesce(s.type, o.type)
    group by o.type, o.day
),

summed as (
    select
        *,
        sum(eligible_tasks) over last_28_days as window_eligible_tasks,
        sum(good_tasks) over last_28_days as window_good_tasks
    from daily
    window last_28_days as (partition by type order by day range between interval 27 day preceding and current row)
),

minimums as (
    select
        max(minimum_n) filter (where metric = 'attainment') as of_day,
        max(minimum_n) filter (where metric = 'window_attainment') as of_window
    from metrics
    where table_name = 'slo'
)

select
    d.day,
    d.type,
    d.target_share,
    d.target_seconds,
    d.eligible_tasks,
    d.good_tasks,
    case when d.eligible_tasks >= m.of_day then d.good_tasks / d.eligible_tasks end as attainment,
    case when d.window_eligible_tasks >= m.of_window then d.window_good_tasks / d.window_eligible_tasks end as window_attainment,
    case
        when d.window_eligible_tasks >= m.of_window
            then 1 - (1 - d.window_good_tasks / d.window_eligible_tasks) / (1 - d.target_share)
    end as error_budget_left,
    case when d.eligible_tasks >= m.of_day then (1 - d.good_tasks / d.eligible_tasks) / (1 - d.target_share) end as burn_rate,
    d.is_mature,
    (1 - d.window_good_tasks / d.window_eligible_tasks) / (1 - d.target_share) as times_overspent,
    case
        when d.window_eligible_tasks >= m.of_window
            then '{type}: {window_attainment:percent} in 28 days were done under {target_seconds:duration}, the target is '
                || '{target_share:percent}; '
                || case
                    when times_overspent <= 1 then '{error_budget_left:percent} of the error budget is left'
                    else 'the error budget is overspent {times_overspent:number} times'
                end
        else '{type}: too few tasks in 28 days'
    end as finding,
    'A failure counts against the target unless the user caused it.' as note
from summed as d
cross join minimums as m
cross join scope as s
where d.day between s.from_day and s.last_day
order by d.type, d.day desc
