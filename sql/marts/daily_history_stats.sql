/*
description: >-
  What history says about tasks that ended, by the day on which they ended (in the time zone of thresholds), account
  and type. It says how many a retry rescued, how long they waited and were worked on, and the coverage of it.
key: [account, day, type]
relationships:
  - {columns: [day], table: dim_date}
  - {columns: [type], table: dim_type}
checks:
  - rescued_tasks <= completed_tasks and seen_open_tasks <= ended_tasks and seen_completed_tasks <= seen_open_tasks
metrics:
  - columns: [coverage]
    formula: tasks that the archive saw before they ended / tasks that ended
    unit: share, 0 to 1
    population: tasks that ended on the day
    filter: is_ended
    n: ended_tasks
    caveat: what is said of the history of the other tasks is a bound, not a measure
    better: higher
  - columns: [rescued_rate]
    formula: completed tasks with a retry observed / completed tasks that the archive saw before they ended
    unit: share, 0 to 1
    population: tasks that completed on the day
    excludes: >-
      tasks that the archive never saw open, whose retries cannot be known, and retries that no observation caught: it
      is a lower bound
    filter: is_completed and was_seen_open
    n: seen_completed_tasks
    minimum_n: 20
    caveat: read it beside coverage
  - columns: [p50_min_queue_wait_seconds]
    formula: exact quantile of the lower bounds of scheduled to running
    unit: seconds
    population: tasks that ended on the day
    excludes: tasks that the archive never saw running
    filter: was_seen_running
    n: seen_running_tasks
    minimum_n: 5
    caveat: 'bounded by how often the archive looks: the truth lies between the lower and the upper bounds'
    better: lower
  - columns: [p50_max_queue_wait_seconds, p95_max_queue_wait_seconds]
    formula: exact quantile of the upper bounds of scheduled to running
    unit: seconds
    population: tasks that ended on the day
    excludes: tasks that the archive never saw running
    filter: was_seen_running
    n: seen_running_tasks
    minimum_n: [5, 20]
    caveat: 'bounded by how often the archive looks: the truth lies between the lower and the upper bounds'
    better: lower
  - columns: [p50_min_processing_seconds]
    formula: exact quantile of the lower bounds of running to finished
    unit: seconds
    population: tasks that ended on the day
    excludes: tasks that the archive never saw running
    filter: was_seen_running
    n: seen_running_tasks
    minimum_n: 5
    caveat: 'bounded by how often the archive looks: the truth lies between the lower and the upper bounds'
    better: lower
  - columns: [p50_max_processing_seconds, p95_max_processing_seconds]
    formula: exact quantile of the upper bounds of running to finished
    unit: seconds
    population: tasks that ended on the day
    excludes: tasks that the archive never saw running
    filter: was_seen_running
    n: seen_running_tasks
    minimum_n: [5, 20]
    caveat: 'bounded by how often the archive looks: the truth lies between the lower and the upper bounds'
    better: lower
*/

with retried as (
    select distinct task_id from task_attempts where attempt > 0
),

ended as (
    select
        t.task_id,
        t.account,
        t.finished_day as day,
        t.type,
        t.is_ended,
        t.is_completed,
        r.task_id is not null as was_retried,
        coalesce(p.was_seen_open, false) as was_seen_open,
        coalesce(p.was_seen_running, false) as was_seen_running,
        case when p.was_seen_running then p.min_queue_wait_seconds end as min_queue_wait_seconds,
        case when p.was_seen_running then p.max_queue_wait_seconds end as max_queue_wait_seconds,
        case when p.was_seen_running then p.min_processing_seconds end as min_processing_seconds,
        case when p.was_seen_running then p.max_processing_seconds end as max_processing_seconds
    from fact_tasks as t
    left join processing_times as p on t.task_id = p.task_id
    left join retried as r on t.task_id = r.task_id
    where t.is_ended and t.finished_day is not null
)

select
    account,                                                                  -- account
    day,                                                                      -- day on which the tasks ended
    type,                                                                     -- task type
    count(*) as ended_tasks,                                                  -- tasks that completed or failed on the day
    count(*) filter (where is_completed) as completed_tasks,                  -- of which completed
    count(*) filter (where was_retried) as retried_tasks,                     -- of the ended ones: with a retry observed
    count(*) filter (where was_retried and is_completed) as rescued_tasks,    -- of the completed ones: with a retry observed
    count(*) filter (where was_retried and is_completed)
    / nullif(count(*) filter (where is_completed and was_seen_open), 0) as rescued_rate,
    count(*) filter (where is_completed and was_seen_open) as seen_completed_tasks, -- of the completed ones: seen before they ended
    count(*) filter (where was_seen_open) as seen_open_tasks,                 -- of the ended ones: seen before they ended
    count(*) filter (where was_seen_open) / count(*) as coverage,
    count(*) filter (where was_seen_running) as seen_running_tasks,           -- of the ended ones: seen running; the times are theirs
    percentile_cont(0.5) within group (order by min_queue_wait_seconds) as p50_min_queue_wait_seconds,
    percentile_cont(0.5) within group (order by max_queue_wait_seconds) as p50_max_queue_wait_seconds,
    percentile_cont(0.95) within group (order by max_queue_wait_seconds) as p95_max_queue_wait_seconds,
    percentile_cont(0.5) within group (order by min_processing_seconds) as p50_min_processing_seconds,
    percentile_cont(0.5) within group (order by max_processing_seconds) as p50_max_processing_seconds,
    percentile_cont(0.95) within group (order by max_processing_seconds) as p95_max_processing_seconds
from ended
group by account, day, type
order by account, day, type
