/*
description: Tasks by the day on which they were created and what has become of them.
metrics: [daily_task_stats.failure_rate]
*/

select
    d.day,
    coalesce(sum(t.created_tasks), 0)::bigint as created_tasks,
    coalesce(sum(t.completed_tasks), 0)::bigint as completed_tasks,
    coalesce(sum(t.failed_tasks), 0)::bigint as failed_tasks,
    coalesce(sum(t.open_tasks), 0)::bigint as open_tasks,
    coalesce(sum(t.other_tasks), 0)::bigint as other_tasks,
    coalesce(bool_and(t.is_mature), true) as is_mature
from days as d
cross join scope as s
left join daily_task_stats as t
    on d.day = t.day and t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
where d.is_in_report
group by d.day
order by d.day desc
