/*
description: >-
  Attempts at each task, as far as they can be told apart: by the retries counter, which the server's own retries
  raise, by scheduledAt, which the user's retry rewrites, and by a failed task that came back. An attempt of which
  nothing is known but that it was made has no row: the numbers have a gap. Completion erases the counter, so
  attempts since the last observation before it stay unknown.
key: [task_id, attempt]
relationships:
  - {columns: [task_id], table: tasks}
checks:
  - attempt >= 0
*/

-- Most tasks were seen in one interval, which is one attempt: they take the short way.
with repeated as (
    select distinct task_id from task_intervals where position = 1 or (phase = 'waiting' and retries > 0)
),

compared as (
    select
        *,
        lag(scheduled_at) over in_order as scheduled_before_at,
        case
            when scheduled_at > lag(scheduled_at) over in_order then 'scheduled_at'
            when phase in ('pending', 'waiting', 'running') and lag(phase) over in_order in ('failed', 'cancelled') then 'came_back'
        end as restarted_by
    from task_intervals
    where task_id in (select task_id from repeated)
    window in_order as (partition by task_id order by position)
),

rounds as (
    select
        *,
        count(restarted_by) over (
            partition by task_id order by position rows between unbounded preceding and current row
        ) as round
    from compared
),

counted as (
    select
        *,
        max(retries) over (
            partition by task_id, round order by position rows between unbounded preceding and current row
        ) as retry
    from rounds
),

before as (
    select
        task_id,
        round,
        max(restarted_by) as restarted_by,
        coalesce(sum(max(retry) + 1) over (
            partition by task_id order by round rows between unbounded preceding and 1 preceding
        ), 0) as attempts_before
    from counted
    group by task_id, round
),

told as (
    select
        c.task_id, c.account, c.type, c.position, c.phase, c.scheduled_at, c.error_message, b.restarted_by,
        c.started_at_earliest, c.started_at_latest, c.stood_until_at, c.retry,
        b.attempts_before + c.retry as attempt
    from counted as c
    inner join before as b on c.task_id = b.task_id and c.round = b.round
),

-- While a task waits for its next attempt it shows the error of the one before.
witnessed as (
    select *, true as is_observed, case when phase != 'waiting' then error_message end as own_error from told
    union all
    select
        task_id, account, type, position, null, scheduled_at, null, restarted_by, null, started_at_latest, null,
        retry - 1, attempt - 1, false, error_message
    from told
    where phase = 'waiting' and retry > 0 and error_message is not null
),

attempts as (
    select
        task_id,
        attempt,
        min(account) as account,
        min(type) as type,
        min(retry) as retry,
        max(scheduled_at) as scheduled_at,
        max(restarted_by) as restarted_by,
        bool_or(is_observed) as is_observed,
        min(started_at_latest) filter (where is_observed) as began_by_at,
        min(started_at_earliest) filter (where phase = 'running') as running_at_earliest,
        min(started_at_latest) filter (where phase = 'running') as running_at_latest,
        max(stood_until_at) as stood_until_at,
        max(own_error) as error_message,
        max_by(phase, position) filter (where is_observed) as phase,
        max(started_at_latest) filter (where phase in ('completed', 'failed', 'cancelled')) as finished_at
    from witnessed
    group by task_id, attempt
),

followed as (
    select
        *,
        lead(attempt) over in_order is not null as is_repeated,
        lead(began_by_at) over in_order as next_began_by_at
    from attempts
    window in_order as (partition by task_id order by attempt)
    union all
    select
        task_id, retries, account, type, retries, scheduled_at, null, true, started_at_latest,
        case when phase = 'running' then started_at_earliest end,
        case when phase = 'running' then started_at_latest end,
        stood_until_at, error_message, phase,
        case when phase in ('completed', 'failed', 'cancelled') then started_at_latest end,
        false, null
    from task_intervals
    where task_id not in (select task_id from repeated)
)

select
    task_id,                                            -- the task
    cast(attempt as bigint) as attempt,                 -- number of the attempt, from 0; unknown ones in between are counted as far as retries tells
    account,                                            -- account
    type,                                               -- task type
    case
        when attempt = 0 then 'first'
        when retry > 0 then 'retries'
        else restarted_by
    end as told_by,                                     -- what showed it: first, retries (the counter), scheduled_at (the user's retry) or came_back (a failed task was open again)
    retry,                                              -- retries counter of the attempt, from 0 at each scheduling
    scheduled_at,                                       -- scheduledAt that it ran under, UTC
    running_at_earliest,                                -- it ran at the earliest from then on, UTC; null where it was not seen running
    running_at_latest,                                  -- and at the latest from then on, UTC
    case
        when finished_at is not null then finished_at
        when is_repeated then least(stood_until_at, next_began_by_at)
    end as ended_at_earliest,                           -- it ended at the earliest then, UTC; null while it is open
    case
        when finished_at is not null then finished_at
        when is_repeated then next_began_by_at
    end as ended_at_latest,                             -- and at the latest then, UTC; null while it is open
    case
        when phase in ('completed', 'failed', 'cancelled') then phase
        when is_repeated then 'failed'
        else 'open'
    end as outcome,                                     -- completed, failed, cancelled or open; an attempt that was repeated had failed
    error_message,                                      -- why it failed, as shown by its end or while the next attempt was waited for; secrets redacted
    is_observed                                         -- whether the task was seen in the attempt; else only its error was, afterwards
from followed
order by task_id, attempt
