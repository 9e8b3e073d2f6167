-- How often tasks fail, by type: the rate with its denominator.
select
    type,
    count(*) filter (where phase = 'failed') as failed_tasks,
    count(*) filter (where phase in ('completed', 'failed')) as ended_tasks,
    round(100.0 * count(*) filter (where phase = 'failed') / nullif(count(*) filter (where phase in ('completed', 'failed')), 0), 2) as failed_percent,
    count(*) filter (where phase in ('pending', 'waiting', 'running')) as open_tasks
from tasks
group by all
order by ended_tasks desc
