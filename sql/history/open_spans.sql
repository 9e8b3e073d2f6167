/*
description: >-
  When tasks were open, of those that were open at a full hour: from the creation to the first end, and from each
  time that a task was open again to the next end. An end that no observation caught before the user's retry shows
  as open time.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
checks:
  - closed_at is null or opened_at <= closed_at
*/

with seen_open as (
    select distinct task_id from task_intervals where phase in ('pending', 'waiting', 'running')
),

-- When a task ended, and when it was open again.
ends as (
    select
        task_id,
        position,
        started_at_latest as ended_at,
        case when next_phase in ('pending', 'waiting', 'running') then ended_at_latest end as reopened_at,
        lead(started_at_latest) over (partition by task_id order by position) as next_ended_at
    from task_intervals
    where phase in ('completed', 'failed', 'cancelled')
),

first_ends as (
    select task_id, min(ended_at) as ended_at, max(reopened_at) as reopened_at from ends group by task_id
),

gone as (
    select task_id, max(ended_at_latest) as gone_at from task_intervals where next_phase = 'deleted' group by task_id
),

spans as (
    -- up to the first end
    select t.task_id, t.created_at as opened_at, e.ended_at as closed_at
    from tasks as t
    inner join first_ends as e on t.task_id = e.task_id
    union all
    -- from a reopening to the next end
    select task_id, reopened_at, next_ended_at from ends where reopened_at is not null and next_ended_at is not null
    union all
    -- still open, or open when it was deleted
    select
        t.task_id,
        coalesce(e.reopened_at, e.ended_at, t.created_at),
        case when t.deleted_at is not null and not (t.phase = 'pending' and t.scheduled_at is null) then g.gone_at end
    from tasks as t
    left join first_ends as e on t.task_id = e.task_id
    left join gone as g on t.task_id = g.task_id
    where t.phase in ('pending', 'waiting', 'running')
)

select
    s.task_id,                                          -- the task
    row_number() over (
        partition by s.task_id order by s.opened_at, s.closed_at nulls last
    ) - 1 as position,                                  -- place among the task's spans, from 0
    s.opened_at,                                        -- when it was created, or open again, UTC
    t.account,                                          -- account whose API key saw it
    coalesce(t.type, 'unknown') as type,                -- task type; unknown where the payload tells none
    t.created_at,                                       -- when it was created, UTC
    s.closed_at,                                        -- when it ended or was seen gone, UTC; null while it is open
    t.phase = 'pending' and t.scheduled_at is null as is_upload_awaited, -- whether it is an upload whose file has not come
    o.task_id is not null as was_seen_open              -- whether the archive saw the task before it ended
from spans as s
inner join tasks as t on s.task_id = t.task_id
left join seen_open as o on s.task_id = o.task_id
where s.opened_at is not null and (s.closed_at is null or date_trunc('hour', s.opened_at) < date_trunc('hour', s.closed_at))
order by task_id, position
