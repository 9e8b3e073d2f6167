-- Open tasks at each full hour (UTC) and their age since creation, by account and type: created before the hour and not
-- ended before it; a task that failed and came back is open again since it was scheduled anew. An upload that never came
-- counts until it is abandoned. An end that no observation caught before the user's retry shows as open time. The last 366
-- days; hours without open tasks have no row.
-- key: account, hour_at, type
-- refers: type to dim_type
-- check: open_tasks > 0
-- metric: open_tasks
--   formula: tasks open at the full hour
--   unit: tasks
--   population: tasks created before the hour
--   leaves out: uploads that never came, once they are abandoned
--   counted: true
--   n: open_tasks
--   not across: hour_at
--   mind: an end that no observation caught before the user's retry shows as open time: read it beside coverage
--   better: lower
-- metric: p50_age_seconds, p95_age_seconds
--   formula: exact quantile of creation to the full hour
--   unit: seconds
--   population: tasks open at the full hour
--   leaves out: uploads that never came, once they are abandoned
--   counted: true
--   n: open_tasks, at least 5, 20
--   not across: hour_at
--   better: lower
-- metric: coverage
--   formula: tasks that the archive saw before they ended / open tasks
--   unit: share, 0 to 1
--   population: tasks open at the full hour
--   counted: true
--   n: open_tasks
--   not across: hour_at
--   better: higher

with seen_open as (
    select distinct task_id from task_intervals where phase in ('pending', 'waiting', 'running')
),

-- When a task ended, and when it was open again.
ends as (
    select
        task_id,
        position,
        started_at_latest as ended_at,
        case when next_phase in ('pending', 'waiting', 'running') then ended_at_latest end as reopened_at
    from task_intervals
    where phase in ('completed', 'failed', 'cancelled')
),

reopened as (
    select task_id, max(reopened_at) as reopened_at from ends where reopened_at is not null group by task_id
),

gone as (
    select task_id, max(ended_at_latest) as gone_at from task_intervals where next_phase = 'deleted' group by task_id
),

spans as (
    -- up to the first end
    select t.task_id, t.account, t.type, t.created_at, t.created_at as opened_at, e.ended_at as closed_at
    from (select task_id, min(ended_at) as ended_at from ends group by task_id) as e
    inner join tasks as t on e.task_id = t.task_id
    union all
    -- from a reopening to the next end
    select t.task_id, t.account, t.type, t.created_at, e.reopened_at, e.next_ended_at
    from (
        select task_id, reopened_at, lead(ended_at) over (partition by task_id order by position) as next_ended_at
        from ends
        where task_id in (select task_id from reopened)
    ) as e
    inner join tasks as t on e.task_id = t.task_id
    where e.reopened_at is not null and e.next_ended_at is not null
    union all
    -- still open
    select
        t.task_id, t.account, t.type, t.created_at,
        coalesce(r.reopened_at, t.created_at),
        case
            when t.phase = 'pending' and t.scheduled_at is null
                then least(a.known_until_at, t.created_at + interval 1 second * x.abandoned_seconds)
            when t.deleted_at is not null then coalesce(g.gone_at, a.known_until_at)
            else a.known_until_at
        end
    from tasks as t
    inner join freshness as a on t.account = a.account
    left join reopened as r on t.task_id = r.task_id
    left join gone as g on t.task_id = g.task_id
    cross join thresholds as x
    where t.phase in ('pending', 'waiting', 'running')
),

hours as (
    select
        s.*,
        date_trunc('hour', greatest(s.opened_at, a.known_until_at - interval 366 day)) + interval 1 hour as first_hour_at,
        date_trunc('hour', least(s.closed_at, a.known_until_at)) as last_hour_at
    from spans as s
    inner join freshness as a on s.account = a.account
),

open_at_hours as (
    select
        task_id,
        account,
        coalesce(type, 'unknown') as type,
        created_at,
        explode(sequence(first_hour_at, last_hour_at, interval 1 hour)) as hour_at
    from hours
    where first_hour_at <= last_hour_at
)

select
    o.account,                                                                -- account
    o.hour_at,                                                                -- the full hour, UTC
    o.type,                                                                   -- task type
    count(*) as open_tasks,
    percentile_cont(0.5) within group (
        order by (unix_millis(o.hour_at) - unix_millis(o.created_at)) / 1000.0
    ) as p50_age_seconds,
    percentile_cont(0.95) within group (
        order by (unix_millis(o.hour_at) - unix_millis(o.created_at)) / 1000.0
    ) as p95_age_seconds,
    count(s.task_id) as seen_open_tasks,                                      -- of the open ones: that the archive saw before they ended
    count(s.task_id) * 1.0 / count(*) as coverage
from open_at_hours as o
left join seen_open as s on o.task_id = s.task_id
group by o.account, o.hour_at, o.type
order by o.account, o.hour_at, o.type
