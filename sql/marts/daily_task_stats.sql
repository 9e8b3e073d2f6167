/*
description: >-
  Tasks by the day on which they were created (in the time zone of thresholds), by account and type: outcomes, and
  how long the completed ones took. A day is mature once none of its tasks is moving: before, its numbers still
  change.
key: [account, day, type]
relationships:
  - {columns: [day], table: dim_date}
  - {columns: [type], table: dim_type}
checks:
  - created_tasks = completed_tasks + failed_tasks + open_tasks + other_tasks
metrics:
  - columns: [failure_rate]
    formula: failed tasks / (failed + completed tasks)
    unit: share, 0 to 1
    population: tasks created on the day
    excludes: tasks that are open, cancelled, or in a phase unknown to us
    filter: is_ended
    n: ended_tasks
    minimum_n: 20
    caveat: moves until the day is mature; a failed task may still be retried
    better: lower
  - columns: [platform_fault_rate]
    formula: failed tasks whose error is the platform's / (failed + completed tasks)
    unit: share, 0 to 1
    population: tasks created on the day
    excludes: tasks that are open, cancelled, or in a phase unknown to us
    filter: is_ended
    n: ended_tasks
    minimum_n: 20
    caveat: 'failures of unknown owner are not counted as the platform''s: see unknown_fault_tasks'
    better: lower
  - columns: [stuck_tasks]
    formula: open tasks that were silent for longer than the threshold of their phase
    unit: tasks
    population: tasks created on the day
    filter: is_stuck
    n: stuck_tasks
    caveat: >-
      running for 5 minutes, waiting for 6 hours, unless thresholds says otherwise: the server's own limits for
      lost tasks
    better: lower
  - columns: [abandoned_tasks]
    formula: 'uploads that never came: pending, never scheduled, and older than the threshold'
    unit: tasks
    population: tasks created on the day
    filter: is_abandoned
    n: abandoned_tasks
    caveat: after 24 hours, unless thresholds says otherwise; a resumable upload may still come
    better: lower
  - columns: [p50_ingest_wait_seconds, p95_ingest_wait_seconds, p99_ingest_wait_seconds]
    formula: exact quantile of created to scheduled
    unit: seconds
    population: completed tasks created on the day
    excludes: tasks without a time of scheduling, as old ones are
    filter: is_completed and ingest_wait_seconds is not null
    n: tasks_with_server_time
    minimum_n: [5, 20, 100]
    caveat: of a direct upload it is the user's upload time; it goes up to the user's last retry where there was one
    better: lower
  - columns: [p50_server_time_seconds, p95_server_time_seconds, p99_server_time_seconds]
    formula: exact quantile of scheduled to finished
    unit: seconds
    population: completed tasks created on the day
    excludes: tasks without a time of scheduling, as old ones are
    filter: is_completed and server_time_seconds is not null
    n: tasks_with_server_time
    minimum_n: [5, 20, 100]
    caveat: includes the queue and waiting between attempts
    better: lower
  - columns: [p50_turnaround_seconds, p95_turnaround_seconds, p99_turnaround_seconds]
    formula: exact quantile of created to finished
    unit: seconds
    population: completed tasks created on the day
    filter: is_completed
    n: completed_tasks
    minimum_n: [5, 20, 100]
    caveat: 'the slowest tasks of a day come last: it grows until the day is mature'
    better: lower
  - columns: [p50_real_time_factor, p95_real_time_factor, p99_real_time_factor]
    formula: exact quantile of server time / media duration
    unit: seconds a second of media, below 1 is faster than real time
    population: completed tasks created on the day
    excludes: tasks without a plausible media duration, as exports are
    filter: is_completed and real_time_factor is not null
    n: tasks_with_real_time_factor
    minimum_n: [5, 20, 100]
    better: lower
*/

select
    account,                                                                  -- account
    created_day as day,                                                       -- day of creation
    type,                                                                     -- task type
    count(*) as created_tasks,                                                -- tasks created on the day
    count(*) filter (where is_ended) as ended_tasks,                          -- of which completed or failed so far
    count(*) filter (where is_completed) as completed_tasks,                  -- of which completed so far
    count(*) filter (where is_failed) as failed_tasks,                        -- of which failed so far
    count(*) filter (where failure_owner = 'platform') as platform_fault_tasks, -- of the failed ones: the platform is to act
    count(*) filter (where failure_owner = 'user') as user_fault_tasks,       -- of the failed ones: the user is to act
    count(*) filter (where failure_owner = 'unknown') as unknown_fault_tasks, -- of the failed ones: signature_owners knows no owner
    count(*) filter (where is_open) as open_tasks,                            -- of which pending, waiting or running
    count(*) filter (where is_abandoned) as abandoned_tasks,
    count(*) filter (where is_stuck) as stuck_tasks,
    count(*) filter (where not is_open and not is_ended) as other_tasks,      -- cancelled, or in a phase unknown to us
    count(*) filter (where is_failed) / nullif(count(*) filter (where is_ended), 0) as failure_rate,
    count(*) filter (where failure_owner = 'platform')
    / nullif(count(*) filter (where is_ended), 0) as platform_fault_rate,
    count(server_time_seconds) filter (where is_completed) as tasks_with_server_time, -- completed tasks with a time of scheduling
    count(real_time_factor) filter (where is_completed) as tasks_with_real_time_factor, -- completed tasks with that and a plausible media duration
    percentile_cont(0.5) within group (order by ingest_wait_seconds) filter (where is_completed) as p50_ingest_wait_seconds,
    percentile_cont(0.95) within group (order by ingest_wait_seconds) filter (where is_completed) as p95_ingest_wait_seconds,
    percentile_cont(0.99) within group (order by ingest_wait_seconds) filter (where is_completed) as p99_ingest_wait_seconds,
    percentile_cont(0.5) within group (order by server_time_seconds) filter (where is_completed) as p50_server_time_seconds,
    percentile_cont(0.95) within group (order by server_time_seconds) filter (where is_completed) as p95_server_time_seconds,
    percentile_cont(0.99) within group (order by server_time_seconds) filter (where is_completed) as p99_server_time_seconds,
    percentile_cont(0.5) within group (order by turnaround_seconds) filter (where is_completed) as p50_turnaround_seconds,
    percentile_cont(0.95) within group (order by turnaround_seconds) filter (where is_completed) as p95_turnaround_seconds,
    percentile_cont(0.99) within group (order by turnaround_seconds) filter (where is_completed) as p99_turnaround_seconds,
    percentile_cont(0.5) within group (order by real_time_factor) filter (where is_completed) as p50_real_time_factor,
    percentile_cont(0.95) within group (order by real_time_factor) filter (where is_completed) as p95_real_time_factor,
    percentile_cont(0.99) within group (order by real_time_factor) filter (where is_completed) as p99_real_time_factor,
    count(*) filter (where is_moving) = 0 as is_mature                        -- whether none of its tasks may still end
from fact_tasks
where created_day is not null
group by account, created_day, type
order by account, day, type
