/*
description: >-
  The day that is not yet over where the archive is proven up to, for an account or for all (null): the day before it is
  the last whole day. Accounts that are a week and more behind the newest do not hold the others back.
parameters: [of_account]
*/

select
    x.time_zone,                                        -- time zone of the days
    min(p.known_until_at) as proven_at,                 -- the archive is proven up to here, UTC: the least of those accounts
    cast(timezone(x.time_zone, min(p.known_until_at)) as date) as today, -- its day
    (today - 1)::date as last_day                       -- the last whole day
from thresholds as x
left join (
    select known_until_at, max(known_until_at) over () - interval 7 day as goes_on_from
    from freshness
    where account = coalesce(of_account, account)
) as p on p.known_until_at > p.goes_on_from
group by x.time_zone
