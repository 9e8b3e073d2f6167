/*
description: >-
  What a report is about: the days, the account and the type, and the point up to which the archive is proven. The
  other queries of this folder read it, so run it first. Its variables narrow the report, each may be left out: set
  variable from_day = date '2026-10-01'; set variable to_day = date '2026-10-31'; set variable account = 'default';
  set variable type = 'upload'; `last_day` is the last whole day, see the macro proven_day; where no day is over yet,
  it is today.
*/

create or replace temp table scope as
with held as (
    select min(created_day) as first_day
    from fact_tasks
    where account = coalesce(getvariable('account')::varchar, account) and type = coalesce(getvariable('type')::varchar, type)
),

days as (
    select
        p.time_zone,
        (
            select coalesce(list(account order by account), [])
            from freshness
            where account = coalesce(getvariable('account')::varchar, account)
        ) as accounts,
        p.proven_at,
        p.today,
        h.first_day
    from proven_day(getvariable('account')::varchar) as p
    cross join held as h
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
    case
        when from_day >= last_day then 'on {last_day:day}' else 'in the last ' || least(last_day - from_day + 1, 7) || ' days'
    end as last_days,                                   -- the last seven days of the report, in words
    last_day - 7 as week_before,                        -- the same weekday before
    last_day < today as is_whole_day,                   -- whether it is over
    timezone(time_zone, last_day::timestamp) as since_at -- when it began, UTC: what came later is new
from ends;

-- The days of the report, and the six before them, which belong to its first seven days.
create or replace temp table days as
select day::date as day, day >= from_day as is_in_report
from (select unnest(generate_series(from_day - 6, last_day, interval 1 day)) as day, from_day from scope);

-- Text of the API in a sentence that is put together here: its braces are no placeholders.
create or replace temp macro literal(text) as replace(replace(text, '{', '{{'), '}', '}}');
