-- Open tasks silent for longer than the thresholds: running for 5 minutes, waiting for 6 hours unless set otherwise.
with clock as (select account, max(coalesce(proven_until_at, finished_at)) as now_at from loads group by all)
select t.task_id, t.type, t.phase, t.created_at, t.updated_at, round(epoch(c.now_at - t.updated_at)) as silent_seconds
from tasks as t
inner join clock as c using (account)
cross join thresholds as x
where (t.phase = 'running' and epoch(c.now_at - t.updated_at) > x.stuck_running_seconds)
    or (t.phase = 'waiting' and epoch(c.now_at - t.updated_at) > x.stuck_waiting_seconds)
order by silent_seconds desc
