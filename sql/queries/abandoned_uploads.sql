-- Uploads that were announced and never came: pending, never scheduled, older than the threshold.
with clock as (select account, max(coalesce(proven_until_at, finished_at)) as now_at from loads group by all)
select f.task_id, f.created_at, round(epoch(c.now_at - f.created_at) / 3600, 1) as age_hours, f.creator_id
from fact_tasks as f
inner join clock as c using (account)
where f.is_abandoned
order by f.created_at
