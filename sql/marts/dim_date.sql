/*
description: >-
  The days that facts refer to, for tools that want a dimension of dates: from the first to the last, without gaps.
  Days that come of clocks gone astray add no centuries: of a gap, ten years are filled.
key: [day]
*/

with days as (
    select created_day as day from fact_tasks where created_day is not null
    union
    select finished_day from fact_tasks where finished_day is not null
    union
    select local_date(a.known_until_at, x.time_zone)
    from freshness as a
    cross join thresholds as x
),

gaps as (
    select day, lead(day) over (order by day) as next_day from days
),

filled as (
    select explode(sequence(day, least(coalesce(next_day - 1, day), day + 3652), interval 1 day)) as moment
    from gaps
),

counted as (
    select
        cast(moment as date) as day,
        cast(date_trunc('week', moment) as date) as first_day_of_week,
        cast(extract(day from cast(moment as timestamp) - cast(date_trunc('week', moment) as timestamp)) as int) + 1 as iso_weekday
    from filled
)

select
    day,                                                                      -- the day, in the time zone of thresholds
    cast(extract(year from day) as int) as year,                              -- year
    cast(extract(quarter from day) as int) as quarter,                        -- quarter, 1 to 4
    cast(extract(month from day) as int) as month,                            -- month, 1 to 12
    split_part(
        'January,February,March,April,May,June,July,August,September,October,November,December',
        ',', cast(extract(month from day) as int)
    ) as month_name,                                                          -- its English name
    cast(extract(day from day) as int) as day_of_month,                       -- day of the month, 1 to 31
    cast(extract(year from first_day_of_week + interval 3 day) as int) as iso_year, -- year that the ISO week belongs to
    cast(extract(week from day) as int) as iso_week,                          -- ISO week, 1 to 53
    iso_weekday,                                                              -- day of the week, 1 Monday to 7 Sunday
    split_part(
        'Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday', ',', iso_weekday
    ) as weekday_name,                                                        -- its English name
    iso_weekday >= 6 as is_weekend,                                           -- whether it is a Saturday or Sunday
    first_day_of_week,                                                        -- Monday of its week
    cast(date_trunc('month', day) as date) as first_day_of_month,             -- first day of its month
    cast(date_trunc('quarter', day) as date) as first_day_of_quarter          -- first day of its quarter
from counted
order by day
