/*
description: 'What was unusual: days and hours far from the same weekday''s median, the newest first.'
*/

select day, grain, type, measure, round(robust_z, 1) as robust_z, reason
from anomalies
order by started_at desc, grain, abs(robust_z) desc
limit 40
