/*
description: 'Whose failures they are: failed tasks by day of creation and by who is to act.'
metrics: [daily_task_stats.platform_fault_rate]
*/

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
order by d.day desc
