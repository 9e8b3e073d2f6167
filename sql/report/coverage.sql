/*
description: How much of their history the archive saw, by the day on which tasks ended, and how many a retry rescued.
metrics: [daily_history_stats.coverage, daily_history_stats.rescued_rate]
*/

with daily as (
    select
        h.day,
        sum(h.ended_tasks)::bigint as ended_tasks,
        sum(h.seen_open_tasks)::bigint as seen_open_tasks,
        sum(h.seen_running_tasks)::bigint as seen_running_tasks,
        sum(h.seen_completed_tasks)::bigint as seen_completed_tasks,
        sum(h.rescued_tasks)::bigint as rescued_tasks
    from daily_history_stats as h
    cross join scope as s
    where h.account = coalesce(s.account, h.account) and h.type = coalesce(s.type, h.type)
    group by h.day
)

select
    d.day,
    coalesce(t.ended_tasks, 0) as ended_tasks,
    coalesce(t.seen_open_tasks, 0) as seen_open_tasks,
    coalesce(t.seen_running_tasks, 0) as seen_running_tasks,
    t.seen_open_tasks / nullif(t.ended_tasks, 0) as coverage,
    coalesce(t.rescued_tasks, 0) as rescued_tasks,
    case
        when t.seen_completed_tasks >= (select minimum_n from metrics where table_name = 'daily_history_stats' and metric = 'rescued_rate')
            then t.rescued_tasks / t.seen_completed_tasks
    end as rescued_rate
from days as d
left join daily as t on d.day = t.day
where d.is_in_report
order by d.day desc
