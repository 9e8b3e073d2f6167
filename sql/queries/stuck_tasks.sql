/*
description: >-
  Open tasks silent for longer than the thresholds: running for 5 minutes, waiting for 6 hours unless set otherwise.
*/

select f.task_id, f.type, f.phase, f.created_at, t.updated_at, round(epoch(a.known_until_at - t.updated_at)) as silent_seconds
from fact_tasks as f
inner join tasks as t using (task_id)
inner join freshness as a on f.account = a.account
where f.is_stuck
order by silent_seconds desc
