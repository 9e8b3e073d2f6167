/*
description: >-
  Can the numbers of a day be trusted? Whether every change is held, whether tasks may still end, what could not be
  read.
*/

select
    d.day,
    d.account,
    sum(d.created_tasks) as created_tasks,
    d.day < local_date(f.proven_until_at, x.time_zone) as is_proven,
    bool_and(d.is_mature) as is_mature,
    coalesce(max(q.misfits), 0) as misfits,
    f.proven_until_at,
    f.last_whole_sweep_at,
    f.last_verdict
from daily_task_stats as d
inner join freshness as f on d.account = f.account
cross join thresholds as x
left join (
    select t.account, t.created_day, count(*) as misfits
    from quarantine as q
    inner join fact_tasks as t on q.task_id = t.task_id
    group by t.account, t.created_day
) as q on d.account = q.account and d.day = q.created_day
group by d.day, d.account, f.proven_until_at, f.last_whole_sweep_at, f.last_verdict, x.time_zone
order by d.day desc, d.account
limit 14
