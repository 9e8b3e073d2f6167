/*
description: >-
  The archive is late: readers do not see what an account did since a point that lies further back than the limit.
  Of an account that nothing was ever proven of, the last load counts. Only accounts that have a key count, where
  any has one.
severity: alarm
command: task-archive status
*/

with aged as (
    select
        f.account,
        f.proven_until_at,
        l.freshness_hours,
        epoch(l.now_at - coalesce(f.proven_until_at, f.last_load_at)) / 3600 as age_hours
    from freshness as f
    cross join limits as l
    where len(l.accounts) = 0 or list_contains(l.accounts, f.account)
)

select
    account as subject,
    format(
        '{}: {}, {:.1f} hours ago; the limit is {:g} hours',
        account,
        coalesce('proven until ' || strftime(proven_until_at, '%Y-%m-%d %H:%M') || ' UTC', 'never proven, last loaded'),
        age_hours, freshness_hours
    ) as summary,
    age_hours as score,
    proven_until_at,
    age_hours,
    freshness_hours
from aged
where age_hours > freshness_hours
order by age_hours desc, subject
