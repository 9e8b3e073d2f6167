/*
description: >-
  How many tasks were open at the full hours of each day: the most, the mean, and the age of the oldest twentieth in
  the worst hour of the worst type. Uploads that never came count until they are abandoned.
metrics: [hourly_backlog.open_tasks, hourly_backlog.p95_age_seconds]
section: Load
place: 62
caption: Open tasks at the full hours, by day
columns: [day, peak_open_tasks, mean_open_tasks, p95_age_seconds, coverage]
otherwise: No task was open at a full hour of these days.
charts:
  - kind: lines
    heading: Open tasks at the full hours
    title: open tasks
    fields: {peak_open_tasks: red, mean_open_tasks: blue dashed}
*/

with hours as (
    select
        b.hour_at,
        sum(b.open_tasks) as open_tasks,
        max(b.p95_age_seconds) as p95_age_seconds,
        sum(b.seen_open_tasks) as seen_open_tasks
    from hourly_backlog as b
    cross join scope as s
    where b.account = coalesce(s.account, b.account) and b.type = coalesce(s.type, b.type)
    group by b.hour_at
),

daily as (
    select
        cast(timezone(s.time_zone, h.hour_at) as date) as day,
        max(h.open_tasks)::bigint as peak_open_tasks,
        sum(h.open_tasks) / 24 as mean_open_tasks,
        max(h.p95_age_seconds) as p95_age_seconds,
        sum(h.seen_open_tasks) / sum(h.open_tasks) as coverage
    from hours as h
    cross join scope as s
    group by all
),

all_days as (
    select
        d.day,
        coalesce(t.peak_open_tasks, 0) as peak_open_tasks,
        coalesce(t.mean_open_tasks, 0) as mean_open_tasks,
        t.p95_age_seconds,
        t.coverage
    from days as d
    left join daily as t on d.day = t.day
    where d.is_in_report
),

peaks as (
    select
        max(d.peak_open_tasks) filter (where d.day > s.last_day - 7) as most_tasks,
        max_by(d.day, (d.peak_open_tasks, d.day)) filter (where d.day > s.last_day - 7) as most_on,
        median(d.peak_open_tasks) as usual_tasks,
        max(d.peak_open_tasks) as peak_open_tasks
    from all_days as d
    cross join scope as s
)

select
    d.*,
    p.most_tasks,
    p.most_on,
    p.usual_tasks,
    'At most {most_tasks:count task} were open at a full hour ' || s.last_days || ', on {most_on:day}; {usual_tasks:number} on a '
    || 'usual day of the report' as finding,
    'Uploads that never came are left out once they are abandoned.' as note
from all_days as d
cross join peaks as p
cross join scope as s
where p.peak_open_tasks > 0
order by d.day desc
