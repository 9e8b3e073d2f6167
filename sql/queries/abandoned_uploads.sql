-- Uploads that were announced and never came: pending, never scheduled, older than the threshold.
with clock as (select account, max(coalesce(proven_until_at, finished_at)) as now_at from loads group by all)
select t.task_id, t.created_at, round(epoch(c.now_at - t.created_at) / 3600, 1) as age_hours, t.creator_id
from tasks as t
inner join clock as c using (account)
cross join thresholds as x
where t.phase = 'pending' and t.scheduled_at is null and epoch(c.now_at - t.created_at) > x.abandoned_seconds
order by t.created_at
