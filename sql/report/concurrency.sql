/*
description: >-
  How many tasks were under way at once, by day: the most and the mean, beside the limit of the settings. All types
  together; of several accounts the sum of what each had in the same hour.
metrics: [capacity.peak_concurrent_tasks, capacity.mean_concurrent_tasks, capacity.share_of_limit]
section: Load
place: 63
caption: Tasks under way at once, by day
columns: [day, peak_concurrent_tasks, mean_concurrent_tasks, concurrency_limit, share_of_limit]
otherwise: >-
  No task was under way in these days, or the report is of one type: concurrency is of all types together.
charts:
  - kind: lines
    heading: Tasks under way at once
    title: tasks under way
    fields: {peak_concurrent_tasks: red, mean_concurrent_tasks: blue dashed}
    unless: concurrency_limit
  - kind: lines
    heading: Tasks under way at once
    title: tasks under way
    fields: {peak_concurrent_tasks: red, mean_concurrent_tasks: blue dashed, concurrency_limit: grey dotted}
    labels: {concurrency_limit: limit}
    requires: concurrency_limit
*/

with hours as (
    select
        c.hour_at,
        sum(c.peak_concurrent_tasks) as peak_concurrent_tasks,
        sum(c.mean_concurrent_tasks) as mean_concurrent_tasks,
        sum(c.concurrency_limit) as concurrency_limit
    from capacity as c
    cross join scope as s
    where c.account = coalesce(s.account, c.account) and s.type is null
    group by c.hour_at
),

daily as (
    select
        cast(timezone(s.time_zone, h.hour_at) as date) as day,
        max(h.peak_concurrent_tasks)::bigint as peak_concurrent_tasks,
        avg(h.mean_concurrent_tasks) as mean_concurrent_tasks,
        max(h.concurrency_limit)::bigint as concurrency_limit
    from hours as h
    cross join scope as s
    group by all
),

peaks as (
    select
        max_by(d, (d.peak_concurrent_tasks, d.day)) filter (where d.day > s.last_day - 7) as most
    from daily as d
    cross join scope as s
    where d.day between s.from_day and s.last_day
)

select
    t.*,
    t.peak_concurrent_tasks / t.concurrency_limit as share_of_limit,
    p.most.peak_concurrent_tasks as most_tasks,
    p.most.day as most_on,
    p.most.peak_concurrent_tasks / p.most.concurrency_limit as most_of_limit,
    'At most {most_tasks:count task} were under way at once ' || s.last_days || ', on {most_on:day}'
    || case
        when p.most.concurrency_limit is not null then ': {most_of_limit:percent} of the limit of {concurrency_limit:number}'
        else ''
    end as finding,
    'Scheduled to finished: tasks that wait in the queue count as under way, stuck ones until they were stuck.'
    || case
        when p.most.concurrency_limit is null then ' No limit is set: TASK_ARCHIVE_CONCURRENCY_LIMIT.' else ''
    end as note
from days as d
inner join daily as t on d.day = t.day
cross join peaks as p
cross join scope as s
where d.is_in_report and p.most is not null
order by d.day desc
