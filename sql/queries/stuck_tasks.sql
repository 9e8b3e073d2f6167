-- Open tasks silent for longer than the thresholds: running for 5 minutes, waiting for 6 hours unless set otherwise.
with clock as (select account, max(coalesce(proven_until_at, finished_at)) as now_at from loads group by all)
select f.task_id, f.type, f.phase, f.created_at, t.updated_at, round(epoch(c.now_at - t.updated_at)) as silent_seconds
from fact_tasks as f
inner join tasks as t using (task_id)
inner join clock as c on f.account = c.account
where f.is_stuck
order by silent_seconds desc
