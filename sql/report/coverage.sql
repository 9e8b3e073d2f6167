/*
description: How much of their history the archive saw, by the day on which tasks ended, and how many a retry rescued.
metrics: [daily_history_stats.coverage, daily_history_stats.rescued_rate]
section: The archive
place: 90
caption: Tasks that the archive saw before they ended, by day of the end
columns: [day, ended_tasks, seen_open_tasks, seen_running_tasks, coverage, rescued_tasks, rescued_rate]
otherwise: No task ended in these days.
charts:
  - kind: bars
    heading: Tasks seen before they ended
    title: seen before the end
    requires: coverage_of_days
    fields: {coverage: blue}
    tooltip: [seen_open_tasks, ended_tasks, rescued_tasks]
    height: 130
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
),

weeks as (
    select
        sum(d.ended_tasks) as ended_tasks,
        nullif(sum(d.seen_open_tasks), 0) as coverage_of_days,
        sum(d.seen_open_tasks) filter (where d.day > s.last_day - 7)
        / nullif(sum(d.ended_tasks) filter (where d.day > s.last_day - 7), 0) as coverage_of_week
    from daily as d
    cross join scope as s
    where d.day between s.from_day and s.last_day
)

select
    d.day,
    coalesce(t.ended_tasks, 0) as ended_tasks,
    coalesce(t.seen_open_tasks, 0) as seen_open_tasks,
    coalesce(t.seen_running_tasks, 0) as seen_running_tasks,
    t.seen_open_tasks / nullif(t.ended_tasks, 0) as coverage,
    case when t.seen_open_tasks > 0 then t.rescued_tasks end as rescued_tasks,
    case
        when t.seen_completed_tasks >= (select minimum_n from metrics where table_name = 'daily_history_stats' and metric = 'rescued_rate')
            then t.rescued_tasks / t.seen_completed_tasks
    end as rescued_rate,
    w.coverage_of_days,
    w.coverage_of_week,
    case
        when w.coverage_of_week is null then 'No task ended ' || s.last_days
        else 'The archive saw {coverage_of_week:percent} of tasks before they ended ' || s.last_days
    end as finding,
    case
        when w.coverage_of_week < 0.9
            then 'Of the others it knows how they ended, not how long they waited and which attempts failed: '
                || '`task-archive observe --every 5m` sees more, live events (`task-archive listen`) nearly all.'
    end as note
from days as d
cross join weeks as w
cross join scope as s
left join daily as t on d.day = t.day
where d.is_in_report and w.ended_tasks > 0
order by d.day desc
