/*
description: >-
  A service level burns its error budget fast: the burn rate of a type's newest day is over the limit. The newest
  day is the last that is mature and has enough tasks for a rate, and is no more than 3 days old.
severity: alarm
command: task-archive explain burn_rate --account {account} --day {day} --type {type}
*/

with newest as (
    select s.*
    from slo as s
    inner join freshness as a using (account)
    cross join thresholds as x
    where s.is_mature and s.burn_rate is not null and s.day >= local_date(a.known_until_at, x.time_zone) - 3
    qualify row_number() over (partition by s.account, s.type order by s.day desc) = 1
)

select
    account || ' ' || type as subject,
    format(
        '{}: {:.1f} % of the {:,} {} tasks created on {} completed within {:g} s, the target is {:g} %: {:.1f} times '
        || 'the rate that just spends the error budget; the limit is {:g}',
        account, 100 * attainment, eligible_tasks, type, day, target_seconds, 100 * target_share, burn_rate,
        slo_burn_rate
    )
    || coalesce(format('. {:.0f} % of the budget of 28 days is left', 100 * error_budget_left), '') as summary,
    burn_rate as score,
    account,
    day,
    type,
    burn_rate,
    slo_burn_rate as limit_burn_rate,
    attainment,
    target_share,
    target_seconds,
    error_budget_left,
    eligible_tasks,
    good_tasks,
    late_tasks,
    failed_tasks,
    overdue_tasks
from newest
cross join limits
where burn_rate > slo_burn_rate
order by burn_rate desc, subject
