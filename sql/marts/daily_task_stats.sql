-- Tasks by the day on which they were created (UTC), by account and type: outcomes, and how long the completed ones took.
-- A day is mature once none of its tasks is open, abandoned uploads aside: before, its rates and durations still move.
-- key: account, day, type
-- check: created_tasks = completed_tasks + failed_tasks + open_tasks + other_tasks

with clock as (
    select account, coalesce(max(proven_until_at), max(finished_at)) as now_at from loads group by account
),

cohort as (
    select
        t.account,
        cast(date_trunc('day', t.created_at) as date) as day,
        t.type,
        t.phase,
        t.phase in ('pending', 'waiting', 'running') as is_open,
        t.phase = 'pending'
        and t.scheduled_at is null
        and unix_millis(c.now_at) - unix_millis(t.created_at) > x.abandoned_seconds * 1000 as is_abandoned,
        case when t.phase = 'completed' then d.server_time_seconds end as server_time_seconds,
        case when t.phase = 'completed' then d.turnaround_seconds end as turnaround_seconds
    from tasks as t
    inner join clock as c on t.account = c.account
    left join task_durations as d on t.task_id = d.task_id
    cross join thresholds as x
    where t.created_at is not null
)

select
    account,                                                                  -- account
    day,                                                                      -- day of creation, UTC
    coalesce(type, 'unknown') as type,                                        -- task type
    count(*) as created_tasks,                                                -- tasks created on the day
    count(*) filter (where phase = 'completed') as completed_tasks,           -- of which completed so far
    count(*) filter (where phase = 'failed') as failed_tasks,                 -- of which failed so far
    count(*) filter (where is_open) as open_tasks,                            -- of which pending, waiting or running
    count(*) filter (where is_abandoned) as abandoned_tasks,                  -- of the open ones: uploads that never came, older than the threshold
    count(*) filter (
        where phase is null or phase not in ('pending', 'waiting', 'running', 'completed', 'failed')
    ) as other_tasks,                                                         -- cancelled, or in a phase unknown to us
    count(*) filter (where phase = 'failed') * 1.0
    / nullif(count(*) filter (where phase in ('completed', 'failed')), 0) as failure_rate, -- failed / (failed + completed); null where none has ended
    percentile_cont(0.5) within group (order by server_time_seconds) as p50_server_time_seconds, -- median server time of completed tasks, seconds
    percentile_cont(0.95) within group (order by server_time_seconds) as p95_server_time_seconds, -- 95th percentile of it, exact
    percentile_cont(0.99) within group (order by server_time_seconds) as p99_server_time_seconds, -- 99th percentile of it, exact
    percentile_cont(0.5) within group (order by turnaround_seconds) as p50_turnaround_seconds, -- median turnaround of completed tasks, seconds
    percentile_cont(0.95) within group (order by turnaround_seconds) as p95_turnaround_seconds, -- 95th percentile of it, exact
    percentile_cont(0.99) within group (order by turnaround_seconds) as p99_turnaround_seconds, -- 99th percentile of it, exact
    count(*) filter (where is_open and not is_abandoned) = 0 as is_mature     -- whether no task of the day is open but abandoned ones
from cohort
group by account, day, coalesce(type, 'unknown')
order by account, day, type
