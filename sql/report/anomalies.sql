/*
description: >-
  What was unusual in the days of the report: days and hours far from the same weekday before, the newest first.
metrics: [anomalies.robust_z]
section: Load
place: 64
caption: Anomalies
columns: [started_at, account, grain, type, reason, robust_z]
otherwise: >-
  Nothing was far from its weekday's usual in these days, as far as they can be judged: that takes two weeks before.
*/

with found as (
    select a.*, s.last_day, s.from_day, s.first_day + 14 as judged_from
    from anomalies as a
    cross join scope as s
    where
        a.day between s.from_day and s.last_day
        and a.account = coalesce(s.account, a.account)
        and (s.type is null or a.type = s.type)
    order by a.started_at desc, abs(a.robust_z) desc, a.type, a.measure
    limit 60
)

select
    started_at,
    day,
    account,
    grain,
    type,
    measure,
    value,
    usual,
    robust_z,
    reason,
    judged_from,
    count(*) filter (where day > last_day - 7) over () as last_anomalies,
    case count(*) filter (where day > last_day - 7) over ()
        when 0 then 'No anomalies'
        when 1 then '1 anomaly'
        else '{last_anomalies:number} anomalies'
    end || ' in the last 7 days' as finding,
    'Days and hours far from the median of the same weekday in the 8 weeks before.'
    || case
        when judged_from > from_day then ' Days before {judged_from:day} have too little before them to be judged.' else ''
    end as note
from found
order by started_at desc, abs(robust_z) desc, type, measure
