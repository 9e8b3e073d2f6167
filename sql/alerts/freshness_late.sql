-- The archive is late: readers do not see what an account did since a point that lies further back than the limit. Only
-- accounts that have a key count, where any has one.
-- severity: alarm
-- look: task-archive status

with proven as (
    select
        account,
        coalesce(
            max_by(proven_until_at, load_id) filter (where proven_until_at is not null),
            min(started_at)
        ) as proven_until_at
    from loads
    group by account
)

select
    account as about,
    format(
        '{}: proven until {} UTC, {:.1f} hours ago; the limit is {:g} hours',
        account, strftime(proven_until_at, '%Y-%m-%d %H:%M'), age_hours, freshness_hours
    ) as says,
    age_hours as degree,
    proven_until_at,
    age_hours,
    freshness_hours
from (
    select p.account, p.proven_until_at, l.freshness_hours, epoch(l.now_at - p.proven_until_at) / 3600 as age_hours
    from proven as p
    cross join limits as l
    where len(l.accounts) = 0 or list_contains(l.accounts, p.account)
)
where age_hours > freshness_hours
order by age_hours desc, about
