/*
description: >-
  What comes in, and how fast it is done: completed tasks by account, type, and codec, height and length of their
  source, as in task_sources: failed tasks have no probe, so sources that fail always do not show here, and those
  that fail often show too small.
key: [account, type, codec, height_class, duration_bucket]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - completed_tasks > 0
metrics:
  - columns: [completed_tasks]
    as_in: hourly_throughput
    population: completed tasks whose source was probed
    excludes: 'tasks without tracks of their source: failed ones, exports, transcode-file, transcode'
    unit: tasks
  - columns: [media_minutes]
    as_in: hourly_throughput
    population: completed tasks whose source was probed
    unit: minutes
  - columns: [p50_server_time_seconds, p95_server_time_seconds]
    formula: exact quantile of scheduled to finished
    unit: seconds
    population: completed tasks whose source was probed
    excludes: tasks without a time of scheduling, as old ones are
    filter: server_time_seconds is not null
    n: tasks_with_server_time
    minimum_n: [5, 20]
    caveat: 'survivors only: a source that made a task fail is not in it'
    better: lower
  - columns: [p50_real_time_factor, p95_real_time_factor]
    formula: exact quantile of server time / media duration
    unit: seconds a second of media, below 1 is faster than real time
    population: completed tasks whose source was probed
    excludes: tasks without a plausible media duration or a time of scheduling
    filter: real_time_factor is not null
    n: tasks_with_real_time_factor
    minimum_n: [5, 20]
    caveat: >-
      survivors only: a source that made a task fail is not in it; short media weigh the fixed part of the work
    better: lower
*/

select
    account,                                                                  -- account
    type,                                                                     -- task type
    codec,                                                                    -- codec of the source, as probed
    height_class,                                                             -- nearest of the usual heights, 240p to 4320p; audio where there is no video
    case duration_from_seconds
        when 0 then 'under 1 min'
        when 60 then '1 to 5 min'
        when 300 then '5 to 15 min'
        when 900 then '15 to 60 min'
        when 3600 then '1 to 3 h'
        when 10800 then '3 h and more'
        else 'unknown'
    end as duration_bucket,                                                   -- length of the source
    min(class_height) as class_height,                                        -- height_class in pixels, to sort by
    min(duration_from_seconds) as duration_from_seconds,                      -- where duration_bucket begins, seconds, to sort by
    count(*) as completed_tasks,
    count(media_duration_seconds) as tasks_with_duration,                     -- of which with a plausible media duration
    cast(
        coalesce(sum(cast(round(media_duration_seconds * 1000) as bigint)), 0) as double
    ) / 60000 as media_minutes,
    count(server_time_seconds) as tasks_with_server_time,                     -- completed tasks with a time of scheduling
    count(real_time_factor) as tasks_with_real_time_factor,                   -- of which with a plausible media duration above 0
    percentile_cont(0.5) within group (order by server_time_seconds) as p50_server_time_seconds,
    percentile_cont(0.95) within group (order by server_time_seconds) as p95_server_time_seconds,
    percentile_cont(0.5) within group (order by real_time_factor) as p50_real_time_factor,
    percentile_cont(0.95) within group (order by real_time_factor) as p95_real_time_factor
from task_sources
group by account, type, codec, height_class, duration_from_seconds
order by account, type, codec, class_height nulls last, height_class, duration_from_seconds nulls last
