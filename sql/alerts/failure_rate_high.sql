/*
description: >-
  Many tasks fail: the failure rate of a type's newest day is over the limit. The newest day is the last that is
  mature and has enough tasks for a rate, and is no more than 3 days old.
severity: alarm
command: task-archive explain failure_rate --account {account} --day {day} --type {type}
*/

with newest as (
    select d.*
    from daily_task_stats as d
    inner join freshness as a using (account)
    cross join thresholds as x
    where d.is_mature and d.failure_rate is not null and d.day >= local_date(a.known_until_at, x.time_zone) - 3
    qualify row_number() over (partition by d.account, d.type order by d.day desc) = 1
)

select
    account || ' ' || type as subject,
    format(
        '{}: {:,} of the {:,} {} tasks created on {} failed, {:.1f} %; the limit is {:g} %. '
        || 'Faults of the platform {:,}, of the user {:,}, of unknown {:,}',
        account, failed_tasks, ended_tasks, type, day, 100 * failure_rate, failure_percent,
        platform_fault_tasks, user_fault_tasks, unknown_fault_tasks
    ) as summary,
    failure_rate as score,
    account,
    day,
    type,
    100 * failure_rate as failed_percent,
    failed_tasks,
    ended_tasks,
    failure_percent as limit_percent,
    platform_fault_tasks,
    user_fault_tasks,
    unknown_fault_tasks
from newest
cross join limits
where 100 * failure_rate > failure_percent
order by failed_tasks desc, subject
