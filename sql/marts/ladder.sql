/*
description: >-
  Outcome and speed by the rungs of the encoding ladder that was asked for, by account and type. A rung is named as
  in task_rungs. A task counts once in each of its rungs: the numbers are those of whole tasks, not of the rung.
key: [account, type, rung]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - tasks > 0 and ended_tasks <= tasks
metrics:
  - columns: [failure_rate, platform_fault_rate]
    as_in: daily_task_stats
    population: tasks that asked for the rung
    caveat: >-
      a failed task may still be retried; what is asked together fails together; over several rungs a task
      counts more than once
  - columns: [p50_real_time_factor, p95_real_time_factor, p50_server_time_seconds, p95_server_time_seconds]
    as_in: daily_task_stats
    population: completed tasks that asked for the rung
    caveat: the time is that of all rungs of the task together
*/

select
    account,                                                                  -- account
    type,                                                                     -- task type
    rung,                                                                     -- lines, frame rate and codec; source or default where there are none
    min(height) as height,                                                    -- its lines: the shorter side, pixels; to sort by
    min(frames_per_second) as frames_per_second,                              -- frame rate asked for, rounded; null: the source's
    min(codec) as codec,                                                      -- codec asked for
    count(*) as tasks,                                                        -- tasks that asked for it
    count(*) filter (where is_ended) as ended_tasks,                          -- of which completed or failed
    count(*) filter (where is_completed) as completed_tasks,                  -- of which completed
    count(*) filter (where is_failed) as failed_tasks,                        -- of which stand as failed
    count(*) filter (where failure_owner = 'platform') as platform_fault_tasks, -- of the failed ones: the platform is to act
    count(*) filter (where is_failed) / nullif(count(*) filter (where is_ended), 0) as failure_rate,
    count(*) filter (where failure_owner = 'platform')
    / nullif(count(*) filter (where is_ended), 0) as platform_fault_rate,
    count(server_time_seconds) filter (where is_completed) as tasks_with_server_time, -- completed tasks with a time of scheduling
    count(real_time_factor) filter (where is_completed) as tasks_with_real_time_factor, -- completed tasks with that and a plausible media duration
    percentile_cont(0.5) within group (order by server_time_seconds) filter (where is_completed) as p50_server_time_seconds,
    percentile_cont(0.95) within group (order by server_time_seconds) filter (where is_completed) as p95_server_time_seconds,
    percentile_cont(0.5) within group (order by real_time_factor) filter (where is_completed) as p50_real_time_factor,
    percentile_cont(0.95) within group (order by real_time_factor) filter (where is_completed) as p95_real_time_factor
from task_rungs
group by account, type, rung
order by account, type, height desc nulls last, rung
