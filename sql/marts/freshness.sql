/*
description: 'Up to when each account is archived, and its last loads: one row an account.'
key: [account]
checks:
  - last_whole_sweep_at <= last_load_at
metrics:
  - columns: [proven_until_at]
    formula: >-
      the server's clock up to which every change has landed; the archive's freshness is the time since then,
      now - proven_until_at, at the time of reading
    unit: UTC
    population: loads of the account since its first proven sweep
    excludes: loads whose proof is broken, and lanes that prove nothing
    filter: proven_until_at is not null
    n: proven_loads
    caveat: an account in which nothing happens is fresh too, as long as it is asked
    better: higher
*/

with swept as (
    select account, min(load_id) as load_id
    from loads
    where lane = 'sweep' and proven_until_at is not null
    group by account
),

known as (
    select
        l.account,
        l.load_id,
        l.lane,
        l.verdict,
        l.started_at,
        l.finished_at,
        case when l.load_id >= s.load_id then l.proven_until_at end as proven_until_at
    from loads as l
    left join swept as s on l.account = s.account
)

select
    account,                                                                  -- account
    max_by(proven_until_at, load_id) filter (where proven_until_at is not null) as proven_until_at,
    count(proven_until_at) as proven_loads,                                   -- loads that proved the archive up to a time
    coalesce(
        max_by(proven_until_at, load_id) filter (where proven_until_at is not null), max(finished_at)
    ) as known_until_at,                                                      -- up to when the archive knows the account, UTC, to which ages, backlogs and whole days are counted: proven_until_at, or where nothing is proven, last_load_at
    max(started_at) filter (where lane = 'sweep' and verdict != 'broken') as swept_at, -- when the last sweep that proves anything began, UTC: what has no last_seen_at was listed then
    max(started_at) filter (where proven_until_at is not null) as proven_at,  -- when the last load that proved anything began, UTC: what has no last_observed_at stood then
    max(finished_at) as last_load_at,                                         -- when the last load was complete, UTC
    max(finished_at) filter (where lane = 'sweep' and verdict = 'whole') as last_whole_sweep_at, -- and the last sweep that lacked nothing, UTC
    max_by(verdict, load_id) as last_verdict                                  -- verdict of the last load: whole, limited or broken
from known
group by account
order by account
