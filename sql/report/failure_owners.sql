/*
description: 'Whose failures they are: failed tasks by day of creation and by who is to act.'
metrics: [daily_task_stats.platform_fault_rate]
section: Failures
place: 31
caption: Failed tasks by day of creation and by who is to act
columns: [day, failed_tasks, platform_fault_tasks, user_fault_tasks, unknown_fault_tasks, ended_tasks]
otherwise: No task created in these days has failed.
charts:
  - kind: stacked
    heading: Failed tasks by who is to act
    title: failed tasks
    fields: {user_fault_tasks: blue, platform_fault_tasks: red, unknown_fault_tasks: grey}
    tooltip: [failed_tasks]
    height: 200
*/

with daily as (
    select
        d.day,
        coalesce(sum(t.failed_tasks), 0)::bigint as failed_tasks,
        coalesce(sum(t.platform_fault_tasks), 0)::bigint as platform_fault_tasks,
        coalesce(sum(t.user_fault_tasks), 0)::bigint as user_fault_tasks,
        coalesce(sum(t.unknown_fault_tasks), 0)::bigint as unknown_fault_tasks,
        coalesce(sum(t.ended_tasks), 0)::bigint as ended_tasks
    from days as d
    cross join scope as s
    left join daily_task_stats as t
        on d.day = t.day and t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    where d.is_in_report
    group by d.day
),

weeks as (
    select
        sum(d.failed_tasks) filter (where d.day > s.last_day - 7)::bigint as failures,
        sum(d.user_fault_tasks) filter (where d.day > s.last_day - 7) / nullif(failures, 0) as share_of_user,
        sum(d.platform_fault_tasks) filter (where d.day > s.last_day - 7) / nullif(failures, 0) as share_of_platform,
        sum(d.unknown_fault_tasks) filter (where d.day > s.last_day - 7) / nullif(failures, 0) as share_of_unknown,
        sum(d.failed_tasks) as failed_tasks
    from daily as d
    cross join scope as s
)

select
    d.*,
    w.failures,
    w.share_of_user,
    w.share_of_platform,
    w.share_of_unknown,
    case
        when w.failures = 0 then 'No task created ' || s.last_days || ' has failed'
        else 'Of {failures:count failure} ' || s.last_days || ', {share_of_user:percent} were caused by the user, '
            || '{share_of_platform:percent} by the platform'
            || case when w.share_of_unknown > 0 then ', {share_of_unknown:percent} are of unknown owner' else '' end
    end as finding
from daily as d
cross join weeks as w
cross join scope as s
where w.failed_tasks > 0
order by d.day desc
