/*
description: >-
  What changed in the number of tasks under way in an hour (UTC), by account, all types together. Hours without a
  change have no row; capacity adds them up.
key: [account, hour_at]
checks:
  - begun_tasks >= 0 and rise >= 0
*/

with events as (
    select account, scheduled_hour_at as hour_at, scheduled_at as moment, 1 as step
    from fact_tasks
    where under_way_until_at is not null
    union all
    select account, under_way_until_hour_at as hour_at, under_way_until_at as moment, -1 as step
    from fact_tasks
    where under_way_until_at is not null
),

-- Within an hour the level starts at 0 here.
levels as (
    select
        account,
        hour_at,
        step,
        unix_millis(moment) - unix_millis(hour_at) as millis_into_hour,
        sum(step) over (partition by account, hour_at order by moment) as level
    from events
)

select
    account,                                                                  -- account
    hour_at,                                                                  -- the hour, UTC
    cast(sum(step) as bigint) as change,                                      -- tasks that were scheduled less those that ended
    count(*) filter (where step = 1) as begun_tasks,                          -- tasks that were scheduled
    cast(greatest(max(level), 0) as bigint) as rise,                          -- most that were under way at one moment more than when the hour began
    cast(sum(step * (3600000 - millis_into_hour)) as bigint) as task_millis   -- time under way of those that were scheduled less what those that ended had left of the hour, milliseconds
from levels
group by account, hour_at
order by account, hour_at
