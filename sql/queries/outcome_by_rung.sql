-- How tasks end by the rung of the encoding ladder that was asked for.
select
    p.height, p.fps,
    count(*) filter (where t.phase = 'completed') as completed_tasks,
    count(*) filter (where t.phase = 'failed') as failed_tasks,
    round(100.0 * count(*) filter (where t.phase = 'failed') / count(*), 2) as failed_percent
from profiles as p
inner join tasks as t using (task_id)
where t.phase in ('completed', 'failed')
group by all
order by p.height, p.fps
