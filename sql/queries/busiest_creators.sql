/*
description: 'Who uses it: creators by media minutes processed.'
*/

select
    creator_id,
    count(*) as tasks,
    count(*) filter (where phase = 'failed') as failed_tasks,
    round(sum(media_duration_seconds) / 60) as media_minutes
from tasks
where creator_id is not null
group by all
order by media_minutes desc nulls last
limit 20
