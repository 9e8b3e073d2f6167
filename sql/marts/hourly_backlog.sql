/*
description: >-
  Open tasks at each full hour (UTC) and their age since creation, by account and type: created before the hour and
  not ended before it; a task that failed and came back is open again since it was scheduled anew. An upload that
  never came counts until it is abandoned. An end that no observation caught before the user's retry shows as open
  time. The last 366 days; hours without open tasks have no row.
key: [account, hour_at, type]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - open_tasks > 0
metrics:
  - columns: [open_tasks]
    formula: tasks open at the full hour
    unit: tasks
    population: tasks created before the hour
    excludes: uploads that never came, once they are abandoned
    n: open_tasks
    non_additive_dimension: hour_at
    caveat: 'an end that no observation caught before the user''s retry shows as open time: read it beside coverage'
    better: lower
  - columns: [p50_age_seconds, p95_age_seconds]
    formula: >-
      quantile (nearest rank) of creation to the full hour, where tasks created in the same hour, of those older
      than two days on the same day, of those older than 32 days in the same month (UTC), count with their mean
      age
    unit: seconds
    population: tasks open at the full hour
    excludes: uploads that never came, once they are abandoned
    n: open_tasks
    minimum_n: [5, 20]
    non_additive_dimension: hour_at
    better: lower
  - columns: [coverage]
    formula: tasks that the archive saw before they ended / open tasks
    unit: share, 0 to 1
    population: tasks open at the full hour
    n: open_tasks
    non_additive_dimension: hour_at
    better: higher
*/

with spans as (
    select
        s.*,
        case
            when s.closed_at is not null then s.closed_at
            when s.is_upload_awaited
                then least(a.known_until_at, s.created_at + interval 1 second * x.abandoned_seconds)
            else a.known_until_at
        end as open_until_at
    from open_spans as s
    inner join freshness as a on s.account = a.account
    cross join thresholds as x
),

hours as (
    select
        s.account,
        s.type,
        s.created_at,
        s.was_seen_open,
        date_trunc('hour', s.created_at) as created_hour_at,
        date_trunc('hour', greatest(s.opened_at, a.known_until_at - interval 366 day)) + interval 1 hour as first_hour_at,
        date_trunc('hour', least(s.open_until_at, a.known_until_at)) as last_hour_at
    from spans as s
    inner join freshness as a on s.account = a.account
),

-- Tasks of about the same age are counted together: by the hour of their creation, older ones by the day or the month.
grains(grain, from_hours, to_hours) as (
    values ('hour', 0, 48), ('day', 49, 768), ('month', 769, null)
),

cohorts as (
    select
        h.*,
        g.grain,
        date_trunc(g.grain, h.created_at) as cohort_at,
        greatest(h.first_hour_at, h.created_hour_at + interval 1 hour * g.from_hours) as from_at,
        least(h.last_hour_at, h.created_hour_at + interval 1 hour * g.to_hours) as to_at
    from hours as h
    cross join grains as g
),

events as (
    select
        account, type, grain, cohort_at, from_at as hour_at, 1 as step,
        unix_millis(created_at) - unix_millis(cohort_at) as millis, case when was_seen_open then 1 else 0 end as seen
    from cohorts
    where from_at <= to_at
    union all
    select
        account, type, grain, cohort_at, to_at + interval 1 hour, -1,
        unix_millis(cohort_at) - unix_millis(created_at), case when was_seen_open then -1 else 0 end
    from cohorts
    where from_at <= to_at
),

changes as (
    select account, type, grain, cohort_at, hour_at, sum(step) as step, sum(millis) as millis, sum(seen) as seen
    from events
    group by account, type, grain, cohort_at, hour_at
),

-- The number that is open stays from one change to the next.
levels as (
    select
        account,
        type,
        cohort_at,
        hour_at,
        lead(hour_at) over in_order as next_at,
        sum(step) over in_order as open_tasks,
        sum(millis) over in_order as millis,
        sum(seen) over in_order as seen_open_tasks
    from changes
    window in_order as (partition by account, type, grain, cohort_at order by hour_at)
),

open_at_hours as (
    select
        account,
        type,
        open_tasks,
        seen_open_tasks,
        cohort_at,
        cast(millis as double) / open_tasks as mean_millis,
        explode(sequence(hour_at, next_at - interval 1 hour, interval 1 hour)) as hour_at
    from levels
    where open_tasks > 0
),

aged as (
    select *, (unix_millis(hour_at) - unix_millis(cohort_at) - mean_millis) / 1000 as age_seconds from open_at_hours
),

ranked as (
    select
        *,
        sum(open_tasks) over (partition by account, hour_at, type) as all_open_tasks,
        sum(open_tasks) over (
            partition by account, hour_at, type order by age_seconds rows between unbounded preceding and current row
        ) as as_young_tasks
    from aged
)

select
    account,                                                                  -- account
    hour_at,                                                                  -- the full hour, UTC
    type,                                                                     -- task type
    cast(sum(open_tasks) as bigint) as open_tasks,
    min(age_seconds) filter (where as_young_tasks >= 0.5 * all_open_tasks) as p50_age_seconds,
    min(age_seconds) filter (where as_young_tasks >= 0.95 * all_open_tasks) as p95_age_seconds,
    cast(sum(seen_open_tasks) as bigint) as seen_open_tasks,                  -- of the open ones: that the archive saw before they ended
    cast(sum(seen_open_tasks) as double) / sum(open_tasks) as coverage
from ranked
group by account, hour_at, type
order by account, hour_at, type
