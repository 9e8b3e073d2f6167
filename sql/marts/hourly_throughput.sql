/*
description: Finished work by the hour in which it completed (UTC), account and type.
key: [account, hour_at, type]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - completed_tasks > 0
metrics:
  - columns: [completed_tasks]
    formula: tasks that completed
    unit: tasks
    population: tasks that completed in the hour
    filter: is_completed
    n: completed_tasks
    better: higher
  - columns: [media_minutes]
    formula: >-
      length of the source media of the tasks that completed, summed in milliseconds, which give the same in any
      order
    unit: minutes
    population: tasks that completed in the hour
    excludes: 'tasks without a plausible media duration: exports carry none'
    filter: is_completed and media_duration_seconds is not null
    n: tasks_with_duration
    better: higher
  - columns: [source_bytes]
    formula: size of the source media of the tasks that completed
    unit: bytes
    population: tasks that completed in the hour
    excludes: tasks without a plausible size; outputs are not counted
    filter: is_completed and asset_size_bytes is not null
    n: tasks_with_size
    better: higher
*/

select
    account,                                                                  -- account
    finished_hour_at as hour_at,                                              -- hour in which the tasks completed, UTC
    type,                                                                     -- task type
    count(*) as completed_tasks,
    count(media_duration_seconds) as tasks_with_duration,                     -- of which with a plausible media duration
    count(asset_size_bytes) as tasks_with_size,                               -- of which with a plausible size
    count(*) filter (where is_implausible) as implausible_tasks,              -- of which with a duration or size beyond the thresholds, left out of the sums
    cast(
        coalesce(sum(cast(round(media_duration_seconds * 1000) as bigint)), 0) as double
    ) / 60000 as media_minutes,
    cast(coalesce(sum(asset_size_bytes), 0) as bigint) as source_bytes
from fact_tasks
where is_completed and finished_at is not null
group by account, finished_hour_at, type
order by account, hour_at, type
