/*
description: >-
  How long each finished task waited in the queue and how long it was worked on, one row a task that completed or
  failed, with a lower and an upper bound: the start of the work lies between the last time the task was known not
  to have begun and the first time it was seen to have. Of a task that was first seen when it had ended, only their
  sum is known. Waiting for and working on repeated attempts since it was last scheduled count as processing.
key: [task_id]
relationships:
  - {columns: [task_id], table: tasks}
checks:
  - min_queue_wait_seconds <= max_queue_wait_seconds
  - min_processing_seconds <= max_processing_seconds
*/

with seen as (
    select
        task_id,
        scheduled_at,
        max(stood_until_at) filter (where phase = 'waiting' and retries = 0) as not_begun_at,
        min(started_at_latest) filter (where phase = 'running' or retries > 0) as begun_at_latest,
        count(*) filter (where phase = 'running') > 0 as was_seen_running
    from task_intervals
    where phase in ('waiting', 'running')
    group by task_id, scheduled_at
),

expected as (
    select distinct task_id from task_intervals where phase = 'pending'
),

finished as (
    select
        t.task_id,
        t.account,
        t.type,
        t.phase,
        t.scheduled_at,
        t.finished_at,
        s.task_id is not null or e.task_id is not null as was_seen_open,
        coalesce(s.was_seen_running, false) as was_seen_running,
        least(t.finished_at, greatest(t.scheduled_at, s.not_begun_at)) as begun_at_earliest,
        least(t.finished_at, coalesce(s.begun_at_latest, t.finished_at)) as begun_at_latest
    from tasks as t
    left join seen as s on t.task_id = s.task_id and t.scheduled_at = s.scheduled_at
    left join expected as e on t.task_id = e.task_id
    where t.phase in ('completed', 'failed') and t.scheduled_at <= t.finished_at
)

select
    task_id,                                                                  -- the task
    account,                                                                  -- account whose API key saw it
    type,                                                                     -- task type
    phase,                                                                    -- completed or failed; failed is not final
    scheduled_at,                                                             -- when it was last scheduled, UTC; tasks without are left out
    finished_at,                                                              -- when it completed or failed, UTC
    was_seen_open,                                                            -- whether the archive saw it before it ended
    was_seen_running,                                                         -- whether the archive saw it running
    (unix_millis(begun_at_earliest) - unix_millis(scheduled_at)) / 1000 as min_queue_wait_seconds, -- scheduled to running, at least, seconds
    (unix_millis(greatest(begun_at_earliest, begun_at_latest)) - unix_millis(scheduled_at)) / 1000 as max_queue_wait_seconds, -- and at most, seconds
    (unix_millis(finished_at) - unix_millis(greatest(begun_at_earliest, begun_at_latest))) / 1000 as min_processing_seconds, -- running to finished, at least, seconds
    (unix_millis(finished_at) - unix_millis(begun_at_earliest)) / 1000 as max_processing_seconds -- and at most, seconds
from finished
order by finished_at, task_id
