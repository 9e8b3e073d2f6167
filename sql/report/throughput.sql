/*
description: >-
  What was done, by the day on which tasks completed: tasks, media minutes, source bytes, and its busiest hour.
metrics: [hourly_throughput.completed_tasks, hourly_throughput.media_minutes, hourly_throughput.source_bytes]
section: Load
place: 60
caption: Completed tasks by day of the end
columns: [day, completed_tasks, media_minutes, source_bytes, busiest_hour_tasks]
otherwise: No task completed in these days.
charts:
  - kind: bars
    heading: Media minutes by day of the end
    title: media minutes
    fields: {media_minutes: blue}
    tooltip: [completed_tasks, source_bytes]
    height: 150
  - kind: bars
    heading: Busiest hour of the day
    title: tasks an hour
    fields: {busiest_hour_tasks: blue}
    tooltip: [completed_tasks]
    height: 150
*/

with done as (
    select
        f.finished_day as day,
        count(*) as completed_tasks,
        cast(coalesce(sum(cast(round(f.media_duration_seconds * 1000) as bigint)), 0) as double) / 60000 as media_minutes,
        coalesce(sum(f.asset_size_bytes), 0)::bigint as source_bytes
    from fact_tasks as f
    cross join scope as s
    where
        f.is_completed
        and f.finished_day between s.from_day and s.last_day
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
    group by f.finished_day
),

hours as (
    select
        cast(timezone(s.time_zone, t.hour_at) as date) as day,
        t.hour_at,
        sum(t.completed_tasks)::bigint as completed_tasks
    from hourly_throughput as t
    cross join scope as s
    where t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    group by all
),

busiest as (
    select day, max(completed_tasks) as busiest_hour_tasks from hours group by day
),

daily as (
    select
        d.day,
        coalesce(t.completed_tasks, 0) as completed_tasks,
        coalesce(t.media_minutes, 0) as media_minutes,
        coalesce(t.source_bytes, 0) as source_bytes,
        coalesce(b.busiest_hour_tasks, 0) as busiest_hour_tasks
    from days as d
    left join done as t on d.day = t.day
    left join busiest as b on d.day = b.day
    where d.is_in_report
),

means as (
    select
        avg(d.media_minutes) filter (where d.day > s.last_day - 7) as a_day,
        avg(d.media_minutes) filter (where d.day <= s.last_day - 7 and d.day > s.last_day - 14) as a_day_before,
        count(*) filter (where d.day <= s.last_day - 7 and d.day > s.last_day - 14) as days_before,
        sum(d.completed_tasks) as completed_tasks,
        max(d.busiest_hour_tasks) as peak_tasks,
        max_by(d.day, d.busiest_hour_tasks) as peak_day
    from daily as d
    cross join scope as s
)

select
    d.*,
    case when m.a_day < 10 then m.a_day else round(m.a_day) end as a_day,
    m.a_day_before,
    m.peak_tasks,
    m.peak_day,
    '{a_day:number} media minutes ' || case when s.from_day < s.last_day then 'a day ' else '' end || 'were processed ' || s.last_days
    || case when m.days_before = 7 and m.a_day_before > 0 then ', {a_day:than a_day_before} in the 7 before' else '' end as finding,
    'Most tasks completed in an hour: {peak_tasks:number}, on {peak_day:day}.' as note
from daily as d
cross join means as m
cross join scope as s
where m.completed_tasks > 0
order by d.day desc
