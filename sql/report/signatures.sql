/*
description: >-
  Why tasks failed in the days of the report, by error signature, most failures of the last seven days first. The
  trend counts failures by day of the failure; of a long report, by as many days as make sixty points.
metrics: [daily_failure_signatures.failed_tasks]
section: Failures
place: 32
caption: Failures by error signature
otherwise: No task failed in these days.
columns:
  - template
  - advice
  - type
  - owner
  - failed_tasks_last_7_days
  - failed_tasks_7_days_before
  - trend
  - failed_tasks
  - share_of_failures
  - first_failed_at
  - last_failed_at
  - example_task_id
*/

with daily as (
    select f.signature_id, f.type, f.day, sum(f.failed_tasks)::bigint as failed_tasks
    from daily_failure_signatures as f
    cross join scope as s
    where
        f.day between s.from_day and s.last_day
        and f.account = coalesce(s.account, f.account)
        and f.type = coalesce(s.type, f.type)
    group by f.signature_id, f.type, f.day
),

steps as (
    select step, s.last_day, ceil((s.last_day - s.from_day + 1) / 60)::integer as days_of_step
    from scope as s
    cross join lateral (
        select unnest(generate_series(0, (s.last_day - s.from_day) // ceil((s.last_day - s.from_day + 1) / 60)::integer)) as step
    )
),

by_step as (
    select d.signature_id, d.type, (x.last_day - d.day) // x.days_of_step as step, sum(d.failed_tasks)::bigint as failed_tasks
    from daily as d
    cross join (select any_value(last_day) as last_day, any_value(days_of_step) as days_of_step from steps) as x
    group by d.signature_id, d.type, (x.last_day - d.day) // x.days_of_step
),

trends as (
    select k.signature_id, k.type, list(coalesce(b.failed_tasks, 0) order by k.step desc) as trend
    from (select * from (select distinct signature_id, type from daily) cross join (select step from steps)) as k
    left join by_step as b on k.signature_id = b.signature_id and k.type = b.type and k.step = b.step
    group by k.signature_id, k.type
),

counted as (
    select
        d.signature_id,
        d.type,
        sum(d.failed_tasks)::bigint as failed_tasks,
        coalesce(sum(d.failed_tasks) filter (where d.day > s.last_day - 7), 0)::bigint as failed_tasks_last_7_days,
        coalesce(sum(d.failed_tasks) filter (where d.day <= s.last_day - 7 and d.day > s.last_day - 14), 0)::bigint as failed_tasks_7_days_before
    from daily as d
    cross join scope as s
    group by d.signature_id, d.type
),

told as (
    select
        f.signature_id,
        f.type,
        min(f.template) as template,
        min(f.owner) as owner,
        min(f.advice) as advice,
        min(f.first_failed_at) as first_failed_at,
        max(f.last_failed_at) as last_failed_at,
        max_by(f.example_task_ids, f.last_failed_at) as example_task_ids
    from failure_signatures as f
    cross join scope as s
    where f.account = coalesce(s.account, f.account)
    group by f.signature_id, f.type
)

select
    t.template,
    c.type,
    t.owner,
    c.failed_tasks_last_7_days,
    c.failed_tasks_7_days_before,
    r.trend,
    c.failed_tasks,
    c.failed_tasks / sum(c.failed_tasks) over () as share_of_failures,
    c.signature_id,
    t.advice,
    t.first_failed_at,
    t.last_failed_at,
    split_part(t.example_task_ids, ', ', 1) as example_task_id,
    count(*) over () as kinds,
    case
        when c.failed_tasks_last_7_days = 0 then 'No task failed in the last 7 days; {kinds:count kind} of failure before'
        else 'Most often in the last 7 days: “{template:cut}” of {type}, {failed_tasks_last_7_days:count time} '
            || '({failed_tasks_7_days_before:number} in the 7 before), '
            || case t.owner when 'unknown' then 'of unknown owner' else 'caused by the ' || t.owner end
    end as finding,
    'What differs from task to task is taken out of the texts. Trend: failures by day, the newest at the right. '
    || '`task-archive query "from fact_tasks where signature_id = ''{signature_id}''"` lists the tasks of the first.' as note
from counted as c
inner join trends as r on c.signature_id = r.signature_id and c.type = r.type
inner join told as t on c.signature_id = t.signature_id and c.type = t.type
order by c.failed_tasks_last_7_days desc, c.failed_tasks desc, t.template, c.type
limit 100
