/*
description: >-
  What a report is about: the days, the account and the type, and the point up to which the archive is proven. The
  other queries of this folder read it, so run it first. Its variables narrow the report, each may be left out: set
  variable from_day = date '2026-10-01'; set variable to_day = date '2026-10-31'; set variable account = 'default';
  set variable type = 'upload'; `last_day` is the last whole day: over at the proven point of every account but
  those a week and more behind the newest, since one that is loaded no more would hold back the others for ever.
  Where no day is over yet, it is today.
*/

create or replace temp table scope as
with proven as (
    select
        account,
        known_until_at as proven_at,
        max(known_until_at) over () - interval 7 day as goes_on_from
    from freshness
    where account = coalesce(getvariable('account')::varchar, account)
),

held as (
    select min(created_day) as first_day
    from fact_tasks
    where account = coalesce(getvariable('account')::varchar, account) and type = coalesce(getvariable('type')::varchar, type)
),

days as (
    select
        x.time_zone,
        (select coalesce(list(account order by account), []) from proven) as accounts,
        min(p.proven_at) as proven_at,
        cast(timezone(x.time_zone, min(p.proven_at)) as date) as today,
        any_value(h.first_day) as first_day
    from thresholds as x
    cross join held as h
    left join proven as p on p.proven_at > p.goes_on_from
    group by x.time_zone
),

ends as (
    select
        *,
        least(
            greatest(today - interval 1 day, first_day), coalesce(cast(getvariable('to_day') as date), today)
        )::date as last_day
    from days
)

select
    getvariable('account')::varchar as account,         -- the account; null: all
    accounts,                                           -- the accounts that it is about
    getvariable('type')::varchar as type,               -- the task type; null: all
    time_zone,                                          -- time zone of the days
    proven_at,                                          -- the archive is proven up to here, UTC: the least of those accounts
    first_day,                                          -- day of the first task
    greatest(coalesce(cast(getvariable('from_day') as date), last_day - 89), first_day)::date as from_day, -- first day of the report
    last_day,                                           -- last day of the report: "yesterday"
    last_day - 7 as week_before,                        -- the same weekday before
    last_day < today as is_whole_day,                   -- whether it is over
    timezone(time_zone, last_day::timestamp) as since_at -- when it began, UTC: what came later is new
from ends;

-- The days of the report, and the six before them, which belong to its first seven days.
create or replace temp table days as
select day::date as day, day >= from_day as is_in_report
from (select unnest(generate_series(from_day - 6, last_day, interval 1 day)) as day, from_day from scope);

-- A share with its 95 % confidence band, by chance alone the share of so many would lie in it 19 times of 20: Wilson's
-- score interval (E. B. Wilson, Probable inference, JASA 22, 1927; recommended by Brown, Cai and DasGupta, Interval
-- estimation for a binomial proportion, Statistical Science 16, 2001). z is 1.959964.
create or replace temp macro wilson(part, whole) as {
    'share': part / whole,
    'low': greatest(
        (part / whole + 1.920729 / whole - 1.959964 * sqrt(part * (whole - part) / (1.0 * whole * whole * whole) + 0.960365 / (1.0 * whole * whole)))
        / (1 + 3.841459 / whole),
        0
    ),
    'high': least(
        (part / whole + 1.920729 / whole + 1.959964 * sqrt(part * (whole - part) / (1.0 * whole * whole * whole) + 0.960365 / (1.0 * whole * whole)))
        / (1 + 3.841459 / whole),
        1
    )
};
