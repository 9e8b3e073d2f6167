/*
description: >-
  Days and hours far from what is usual for their weekday (in the time zone of thresholds), with the reason in
  words. A value is compared with the same weekday, or the same hour of it, in the 8 weeks before, of which at least
  2 must have a value; robust z = 0.6745 * (value - median) / MAD, the median absolute deviation, and |z| > 3.5
  (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993), with 3 weeks to compare with > 4.7, with 2 > 7. So that chance in small numbers is no anomaly,
  the MAD counts as no less than sqrt(median + 1) for counts; the standard error of so many tasks for a rate, which
  must be 2 points off too; and for a time a tenth of the median, or 2 * median / sqrt(tasks) where that is more. A
  day without tasks counts as 0. Days and hours that are over, the last 60 weeks; of rate and time, mature days with
  20 tasks.
key: [account, grain, started_at, type, measure]
relationships:
  - {columns: [day], table: dim_date}
checks:
  - abs(robust_z) > 3.5
metrics:
  - columns: [robust_z]
    formula: >-
      0.6745 * (value - median of the same weekdays before) / their median absolute deviation, which counts as
      at least what chance makes of it
    unit: standard deviations of usual values
    population: days and hours of the account that are over, for each type and all together
    excludes: days and hours with fewer than 2 values on the same weekdays of the 8 weeks before
    n: compared_weeks
    minimum_n: 2
    caveat: a weekday that was off half of the time is no usual one; holidays are anomalies too
*/

with accounts as (
    select f.account, a.known_until_at, x.time_zone, min(f.created_at) as first_at
    from fact_tasks as f
    inner join freshness as a on f.account = a.account
    cross join thresholds as x
    where f.created_at >= a.known_until_at - interval 420 day and f.created_at < a.known_until_at
        -- one that was never swept may lack days
        and f.account in (select account from loads where lane = 'sweep' and verdict <> 'broken')
    group by f.account, a.known_until_at, x.time_zone
),

all_types as (
    select
        account,
        created_day as day,
        percentile_cont(0.95) within group (order by server_time_seconds) as p95_server_time_seconds
    from fact_tasks
    where is_completed
    group by account, created_day
),

daily as (
    select
        account, type, day, created_tasks, failed_tasks, ended_tasks, is_mature,
        tasks_with_server_time, p95_server_time_seconds
    from daily_task_stats
    union all
    select
        s.account, 'all', s.day, sum(s.created_tasks), sum(s.failed_tasks), sum(s.ended_tasks), bool_and(s.is_mature),
        sum(s.tasks_with_server_time), min(a.p95_server_time_seconds)
    from daily_task_stats as s
    left join all_types as a on s.account = a.account and s.day = a.day
    group by s.account, s.day
),

-- Every day of every type, and every hour, also those without a task.
days as (
    select a.account, t.type, d.day, d.weekday_name, to_utc_timestamp(cast(d.day as timestamp), a.time_zone) as started_at
    from accounts as a
    inner join (select distinct account, type from daily) as t on a.account = t.account
    inner join dim_date as d
        on local_date(a.first_at, a.time_zone) <= d.day and d.day < local_date(a.known_until_at, a.time_zone)
),

hours as (
    select
        account,
        time_zone,
        explode(sequence(
            date_trunc('hour', first_at), date_trunc('hour', known_until_at) - interval 1 hour, interval 1 hour
        )) as started_at
    from accounts
),

hourly as (
    select account, 'created_tasks' as measure, date_trunc('hour', created_at) as hour_at, count(*) as tasks
    from fact_tasks
    group by account, date_trunc('hour', created_at)
    union all
    select account, 'failed_tasks', finished_hour_at, count(*)
    from fact_tasks
    where is_failed
    group by account, finished_hour_at
),

-- Weeks are counted in local time: the same hour a week before is 7 days earlier, whatever was done to the clocks.
measured as (
    select
        d.account, 'day' as grain, d.type, m.measure, d.started_at, cast(d.day as timestamp) as local_time,
        case m.measure
            when 'created_tasks' then coalesce(s.created_tasks, 0)
            when 'failure_rate' then case when s.is_mature and s.ended_tasks >= 20 then s.failed_tasks / s.ended_tasks end
            else case when s.is_mature and s.tasks_with_server_time >= 20 then s.p95_server_time_seconds end
        end as value,
        case when m.measure = 'failure_rate' then s.ended_tasks else s.tasks_with_server_time end as n
    from days as d
    cross join (values ('created_tasks'), ('failure_rate'), ('p95_server_time_seconds')) as m(measure)
    left join daily as s on d.account = s.account and d.type = s.type and d.day = s.day
    union all
    select
        h.account, 'hour', 'all', m.measure, h.started_at, from_utc_timestamp(h.started_at, h.time_zone),
        coalesce(t.tasks, 0), null
    from hours as h
    cross join (values ('created_tasks'), ('failed_tasks')) as m(measure)
    left join hourly as t on h.account = t.account and m.measure = t.measure and h.started_at = t.hour_at
),

compared as (
    select m.*, b.value as value_before
    from (select *, explode(sequence(1, 8, 1)) as weeks_before from measured where value is not null) as m
    inner join measured as b
        on m.account = b.account and m.grain = b.grain and m.type = b.type and m.measure = b.measure
        and m.local_time - interval 7 day * m.weeks_before = b.local_time and b.value is not null
),

usually as (
    select
        account, grain, type, measure, started_at,
        percentile_cont(0.5) within group (order by value_before) as usual
    from compared
    group by account, grain, type, measure, started_at
),

judged as (
    select
        c.account, c.grain, c.type, c.measure, c.started_at, c.local_time, c.value, u.usual,
        count(*) as compared_weeks,
        greatest(
            percentile_cont(0.5) within group (order by abs(c.value_before - u.usual)),
            case c.measure
                when 'failure_rate'
                    then sqrt(least(greatest(u.usual, 1e-2), 99e-2) * (1 - least(greatest(u.usual, 1e-2), 99e-2)) / c.n)
                when 'p95_server_time_seconds' then u.usual * greatest(0.1, 2 / sqrt(c.n))
                else sqrt(u.usual + 1)
            end
        ) as spread
    from compared as c
    inner join usually as u
        on c.account = u.account and c.grain = u.grain and c.type = u.type and c.measure = u.measure
        and c.started_at = u.started_at
    group by c.account, c.grain, c.type, c.measure, c.started_at, c.local_time, c.value, c.n, u.usual
),

found as (
    select
        j.*,
        d.day,
        d.weekday_name,
        case when j.type = 'all' then 'tasks' else j.type || ' tasks' end as tasks,
        d.weekday_name || ' ' || cast(d.day as string)
        || case
            when j.grain = 'hour'
                then ' from ' || substring(cast(j.local_time as string), 12, 5)
                    || ' to ' || substring(cast(j.local_time + interval 1 hour as string), 12, 5)
                    || ' ' || x.time_zone
            else ''
        end as whenever,
        case when j.grain = 'hour' then 'that hour of a ' else 'a ' end || d.weekday_name as such_a_time
    from judged as j
    inner join dim_date as d on cast(j.local_time as date) = d.day
    cross join thresholds as x
    where j.compared_weeks >= 2 and j.spread > 0
        and abs(0.6745e0 * (j.value - j.usual) / j.spread) > 3.5 * greatest(1, 4 / j.compared_weeks)
        and (j.measure <> 'failure_rate' or abs(j.value - j.usual) >= 0.02)
)

select
    account,                                                                  -- account
    grain,                                                                    -- day or hour
    started_at,                                                               -- when the day or hour began, UTC
    day,                                                                      -- the day
    type,                                                                     -- task type; all: of all types together
    measure,                                                                  -- created_tasks and failed_tasks of the time; failure_rate and p95_server_time_seconds of the tasks created on the day
    value,                                                                    -- its value
    usual,                                                                    -- median of the same weekdays before
    spread,                                                                   -- their median absolute deviation, or what chance makes of it
    compared_weeks,                                                           -- how many of the 8 weeks before have a value
    0.6745e0 * (value - usual) / spread as robust_z,
    case measure
        when 'failure_rate'
            then cast(round(100 * value, 1) as string) || ' % of the ' || tasks || ' created on ' || whenever
                || ' failed; usual for ' || such_a_time || ' are ' || cast(round(100 * usual, 1) as string) || ' %'
        when 'p95_server_time_seconds'
            then '95 % of the ' || tasks || ' created on ' || whenever || ' took the server up to '
                || cast(round(value, 1) as string) || ' s; usual for ' || such_a_time || ' are '
                || cast(round(usual, 1) as string) || ' s'
        else cast(cast(value as bigint) as string) || ' ' || tasks
            || case when measure = 'failed_tasks' then ' failed on ' else ' created on ' end || whenever
            || '; usual for ' || such_a_time || ' are ' || cast(cast(round(usual) as bigint) as string)
    end as reason                                                             -- the same in words
from found
order by account, started_at, grain, type, measure
