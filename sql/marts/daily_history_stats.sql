-- What history tells of tasks that ended, by the day on which they ended (UTC), by account and type: how many a retry
-- rescued, how long they waited and were worked on, and the coverage of it, the share of them seen before they ended.
-- A retry that no observation caught is not counted: what was rescued is a lower bound, the better the coverage the closer.
-- key: account, day, type
-- check: rescued_tasks <= completed_tasks and seen_open_tasks <= ended_tasks
-- check: coverage between 0 and 1

with retried as (
    select distinct task_id from task_attempts where attempt > 0
),

ended as (
    select
        t.account,
        cast(date_trunc('day', t.finished_at) as date) as day,
        coalesce(t.type, 'unknown') as type,
        t.phase,
        r.task_id is not null as was_retried,
        coalesce(p.was_seen_open, false) as was_seen_open,
        coalesce(p.was_seen_running, false) as was_seen_running,
        case when p.was_seen_running then p.min_queue_wait_seconds end as min_queue_wait_seconds,
        case when p.was_seen_running then p.max_queue_wait_seconds end as max_queue_wait_seconds,
        case when p.was_seen_running then p.min_processing_seconds end as min_processing_seconds,
        case when p.was_seen_running then p.max_processing_seconds end as max_processing_seconds
    from tasks as t
    left join processing_times as p on t.task_id = p.task_id
    left join retried as r on t.task_id = r.task_id
    where t.phase in ('completed', 'failed') and t.finished_at is not null
)

select
    account,                                                                  -- account
    day,                                                                      -- day on which the tasks ended, UTC
    type,                                                                     -- task type
    count(*) as ended_tasks,                                                  -- tasks that completed or failed on the day
    count(*) filter (where phase = 'completed') as completed_tasks,           -- of which completed
    count(*) filter (where was_retried) as retried_tasks,                     -- of the ended ones: with a retry observed
    count(*) filter (where was_retried and phase = 'completed') as rescued_tasks, -- of the completed ones: with a retry observed
    count(*) filter (where was_retried and phase = 'completed') * 1.0
    / nullif(count(*) filter (where phase = 'completed'), 0) as rescued_rate, -- rescued / completed; null where none completed
    count(*) filter (where was_seen_open) as seen_open_tasks,                 -- of the ended ones: seen before they ended
    count(*) filter (where was_seen_open) * 1.0 / count(*) as coverage,       -- seen before they ended / ended
    count(*) filter (where was_seen_running) as seen_running_tasks,           -- of the ended ones: seen running; the times below are theirs
    percentile_cont(0.5) within group (order by min_queue_wait_seconds) as p50_min_queue_wait_seconds, -- median of the lower bounds of queue wait, seconds
    percentile_cont(0.5) within group (order by max_queue_wait_seconds) as p50_max_queue_wait_seconds, -- median of the upper bounds, seconds
    percentile_cont(0.95) within group (order by max_queue_wait_seconds) as p95_max_queue_wait_seconds, -- 95th percentile of the upper bounds, seconds
    percentile_cont(0.5) within group (order by min_processing_seconds) as p50_min_processing_seconds, -- median of the lower bounds of processing time, seconds
    percentile_cont(0.5) within group (order by max_processing_seconds) as p50_max_processing_seconds, -- median of the upper bounds, seconds
    percentile_cont(0.95) within group (order by max_processing_seconds) as p95_max_processing_seconds -- 95th percentile of the upper bounds, seconds
from ended
group by account, day, type
order by account, day, type
