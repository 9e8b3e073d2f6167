/*
description: 'Uploads that were announced and never came: pending, never scheduled, older than the threshold.'
*/

select f.task_id, f.created_at, round(epoch(a.known_until_at - f.created_at) / 3600, 1) as age_hours, f.creator_id
from fact_tasks as f
inner join freshness as a using (account)
where f.is_abandoned
order by f.created_at
