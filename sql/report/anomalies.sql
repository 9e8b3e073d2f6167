/*
description: >-
  What was unusual in the days of the report: days and hours far from the same weekday before, the newest first.
metrics: [anomalies.robust_z]
*/

select
    a.started_at,
    a.day,
    a.account,
    a.grain,
    a.type,
    a.measure,
    a.value,
    a.usual,
    a.robust_z,
    a.reason
from anomalies as a
cross join scope as s
where
    a.day between s.from_day and s.last_day
    and a.account = coalesce(s.account, a.account)
    and (s.type is null or a.type = s.type)
order by a.started_at desc, abs(a.robust_z) desc, a.type, a.measure
limit 60
