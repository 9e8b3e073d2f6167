/*
description: >-
  Contiguous time of a task in a phase, as far as it was observed, with the bounds of its start and its end, by the
  server's clock. Exact: pending starts at createdAt; waiting at scheduledAt, which ends pending; completed, failed
  and cancelled at their updatedAt. The user's retry rewrites scheduledAt: one that was not observed makes pending look
  longer. The server's own retries keep it: when the wait for one began is unknown. So is when a task came back,
  or was set back to an older time. Other bounds are as wide as observations lie apart. Where a phase can follow
  another directly, and retries and scheduledAt are those of direct succession, it is taken to have. A phase that
  was passed between two observations has no row: the times between one row's end and the next row's start are not
  accounted for.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
checks:
  - started_at_earliest <= started_at_latest
  - ended_at_earliest is null or ended_at_earliest <= ended_at_latest
  - min_seconds >= 0 and (max_seconds is null or min_seconds <= max_seconds)
*/

-- Most tasks were seen in one state: they take the short way.
with repeated as (
    select task_id from task_history where position = 1
),

-- A counter that is no number of attempts counts as none.
told as (
    select *, case when retries between 0 and 1000 then retries else 0 end as retry from task_history
),

compared as (
    select
        *,
        case
            when is_deleted and lag(is_deleted) over in_order then 0
            when is_deleted = lag(is_deleted) over in_order
                and phase is not distinct from lag(phase) over in_order
                and retry = lag(retry) over in_order
                and scheduled_at is not distinct from lag(scheduled_at) over in_order then 0
            else 1
        end as is_start
    from told
    where task_id in (select task_id from repeated)
    window in_order as (partition by task_id order by position)
),

numbered as (
    select
        *, sum(is_start) over (partition by task_id order by position rows between unbounded preceding and current row) as run
    from compared
),

runs as (
    select
        task_id,
        run,
        min(account) as account,
        min(type) as type,
        min(created_at) as created_at,
        min(phase) as phase,
        bool_or(is_deleted) as is_deleted,
        min(scheduled_at) as scheduled_at,
        min(retry) as retries,
        max(error_message) as error_message,
        count(*) as observed_states,
        min(stood_from_at) as stood_from_at,
        min_by(stood_from_at > updated_at, position) as is_from_fetch,
        case when bool_and(stood_until_at is not null) then max(stood_until_at) end as stood_until_at
    from numbered
    group by task_id, run
),

neighbours as (
    select
        *,
        true as is_repeated,
        count(*) filter (where not is_deleted) over in_order - 1 as position,
        lag(is_deleted) over in_order as was_deleted,
        lag(stood_until_at) over in_order as before_until_at,
        lead(phase) over in_order as next_phase,
        lead(is_deleted) over in_order as is_deleted_next,
        lead(scheduled_at) over in_order as next_scheduled_at,
        lead(retries) over in_order as next_retries,
        lead(stood_from_at) over in_order as next_from_at
    from runs
    window in_order as (partition by task_id order by run)
    union all
    select
        task_id, 1, account, type, created_at, phase, is_deleted, scheduled_at, retry, error_message, 1,
        stood_from_at, false, stood_until_at, false, 0, null, null, null, null, null, null, null
    from told
    where task_id not in (select task_id from repeated)
),

starts as (
    select
        *,
        case
            when was_deleted or is_from_fetch then null
            when phase = 'pending' and run = 1 then created_at
            when phase = 'waiting' and retries = 0 then scheduled_at
            when phase in ('completed', 'failed', 'cancelled') then stood_from_at
        end as started_at
    from neighbours
),

bounds as (
    select
        *,
        coalesce(started_at, stood_from_at) as started_at_latest,
        coalesce(
            started_at, least(stood_from_at, greatest(created_at, scheduled_at, before_until_at)), stood_from_at
        ) as started_at_earliest,
        coalesce(
            case
                when phase = 'pending' then next_phase = 'waiting' and next_retries = 0
                when phase = 'failed'
                    then next_phase = 'waiting' and next_retries = 0 and (scheduled_at is null or next_scheduled_at > scheduled_at)
                when scheduled_at is distinct from next_scheduled_at then false
                when phase = 'waiting' then next_phase = 'running' and next_retries = retries
                when phase = 'running'
                    then next_phase in ('completed', 'cancelled')
                        or (next_phase = 'failed' and next_retries = retries)
                        or (next_phase = 'waiting' and next_retries = retries + 1)
            end and not is_deleted_next, false
        ) as is_followed_directly
    from starts
),

followed as (
    select
        *,
        lead(started_at_earliest) over in_order as next_earliest_at,
        lead(started_at_latest) over in_order as next_latest_at
    from bounds
    where is_repeated
    window in_order as (partition by task_id order by run)
    union all
    select *, null, null from bounds where not is_repeated
),

ends as (
    select
        *,
        case
            when is_followed_directly then next_latest_at
            when is_deleted_next then next_from_at
            when phase = 'pending' and next_scheduled_at is not null then next_scheduled_at
            when next_scheduled_at > scheduled_at then next_scheduled_at
            else next_latest_at
        end as ended_at_latest,
        case
            when is_followed_directly then next_earliest_at
            when not is_deleted_next and phase = 'pending' then next_scheduled_at
        end as ended_at_least
    from followed
    where not is_deleted
),

-- Clocks of several servers may disagree by a little: no interval ends before it started.
clamped as (
    select
        *,
        case when ended_at_latest is not null then greatest(started_at_earliest, ended_at_latest) end as ended_by_at
    from ends
),

spans as (
    select
        *,
        case
            when ended_by_at is not null
                then least(ended_by_at, greatest(started_at_earliest, coalesce(ended_at_least, stood_until_at)))
        end as ended_from_at
    from clamped
)

select
    task_id,                                            -- the task
    position,                                           -- place among the task's intervals, from 0
    account,                                            -- account
    type,                                               -- task type
    phase,                                              -- phase that the task was in
    scheduled_at,                                       -- when it had last been scheduled, UTC
    retries,                                            -- attempts that had been repeated; 0 where completion erased them
    error_message,                                      -- why it failed, or why the attempt before failed
    started_at_earliest,                                -- it started at the earliest then, UTC
    started_at_latest,                                  -- and at the latest then, UTC
    started_at_earliest = started_at_latest as is_start_exact, -- whether the start is exact, not bounded by the observations
    ended_from_at as ended_at_earliest,                                  -- it ended at the earliest then, UTC; null while it lasts
    ended_by_at as ended_at_latest,                                    -- and at the latest then, UTC; null while it lasts
    ended_by_at is not null and ended_from_at = ended_by_at as is_end_exact, -- whether the end is exact
    stood_until_at,                                     -- the task was known to be in it until then, UTC; null while it is: then it is the later of started_at_latest and proven_until_at in freshness
    case when is_deleted_next then 'deleted' else next_phase end as next_phase, -- phase seen next, or deleted; null while it lasts
    is_followed_directly,                               -- whether that phase followed at once, as far as can be told
    observed_states,                                    -- states seen of it: progress reports are states too
    greatest(0, unix_millis(coalesce(ended_from_at, stood_until_at)) - unix_millis(started_at_latest)) / 1000 as min_seconds, -- it lasted at least so long, seconds; null while the task is in it: see stood_until_at
    case
        when ended_by_at is not null then (unix_millis(ended_by_at) - unix_millis(started_at_earliest)) / 1000
    end as max_seconds                                  -- and at most so long, seconds; null while it lasts
from spans
order by task_id, position
