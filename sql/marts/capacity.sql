/*
description: >-
  How many tasks were under way at once, by account and hour (UTC), all types together: from when a task was last
  scheduled to its end, or for open ones up to now, at most until they were silent for as long as stuck tasks are.
  Every hour that is over, from the first in which a task was scheduled; the last 366 days.
key: [account, hour_at]
checks:
  - mean_concurrent_tasks >= 0 and mean_concurrent_tasks <= peak_concurrent_tasks
  - peak_concurrent_tasks <= tasks_under_way
metrics:
  - columns: [peak_concurrent_tasks]
    formula: most tasks under way at one moment of the hour, to the millisecond
    unit: tasks
    population: tasks scheduled before the hour was over and not ended before it
    excludes: tasks without a time of scheduling, as old ones are
    n: tasks_under_way
    caveat: >-
      an upper bound of what was processed at once, since it includes waiting in the queue and between attempts;
      what went before the user's last retry is not in it
  - columns: [mean_concurrent_tasks]
    formula: time that tasks were under way in the hour / the hour
    unit: tasks
    population: tasks scheduled before the hour was over and not ended before it
    excludes: tasks without a time of scheduling, as old ones are
    n: tasks_under_way
    caveat: >-
      an upper bound of what was processed at once, since it includes waiting in the queue and between attempts;
      what went before the user's last retry is not in it
  - columns: [share_of_limit]
    formula: peak of concurrent tasks / tasks that the account may have under way at once
    unit: share; above 1 tasks were queued
    population: tasks scheduled before the hour was over and not ended before it
    excludes: tasks without a time of scheduling, as old ones are
    n: tasks_under_way
    caveat: null where the settings tell no limit; queued tasks are in it too
    better: lower
*/

with bounds as (
    select
        account,
        date_trunc('hour', known_until_at - interval 366 day) as from_at,
        date_trunc('hour', known_until_at) as until_at
    from freshness
),

changes as (
    select n.account, n.hour_at, n.change, n.begun_tasks, n.rise, n.task_millis
    from hourly_under_way as n
    inner join bounds as b on n.account = b.account
    where n.hour_at >= b.from_at and n.hour_at < b.until_at
    union all
    -- what was under way when the first hour began
    select n.account, b.from_at - interval 1 hour, cast(sum(n.change) as bigint), 0, 0, 0
    from hourly_under_way as n
    inner join bounds as b on n.account = b.account
    where n.hour_at < b.from_at
    group by n.account, b.from_at
),

hours as (
    select
        f.account,
        explode(sequence(f.first_hour_at, b.until_at - interval 1 hour, interval 1 hour)) as hour_at
    from (select account, min(hour_at) as first_hour_at from changes group by account) as f
    inner join bounds as b on f.account = b.account
),

carried as (
    select
        h.account,
        h.hour_at,
        coalesce(sum(n.change) over (
            partition by h.account order by h.hour_at rows between unbounded preceding and 1 preceding
        ), 0) as under_way_before,
        coalesce(n.begun_tasks, 0) as begun_tasks,
        coalesce(n.rise, 0) as rise,
        coalesce(n.task_millis, 0) as task_millis
    from hours as h
    left join changes as n on h.account = n.account and h.hour_at = n.hour_at
)

select
    h.account,                                                                -- account
    h.hour_at,                                                                -- the hour, UTC
    cast(h.under_way_before + h.begun_tasks as bigint) as tasks_under_way,    -- tasks under way at any time of the hour
    cast(h.under_way_before + h.rise as bigint) as peak_concurrent_tasks,
    cast(h.under_way_before * 3600000 + h.task_millis as double) / 3600000 as mean_concurrent_tasks,
    x.concurrency_limit,                                                      -- tasks that the account may have under way at once; null: not told
    cast(h.under_way_before + h.rise as double) / x.concurrency_limit as share_of_limit
from carried as h
inner join bounds as b on h.account = b.account
cross join thresholds as x
where h.hour_at >= b.from_at
order by account, hour_at
