/*
description: >-
  What the page may be narrowed to: the four types and the four accounts that most tasks of the report's days are of, from
  100 tasks on, where there are several. Nothing where the report is about one type or account already, or about more
  than 100 days, of which each choice would add much to the file.
*/

with held as (
    select d.account, d.type, sum(d.created_tasks) as tasks
    from daily_task_stats as d
    cross join scope as s
    where
        s.type is null
        and s.account is null
        and s.last_day - s.from_day < 100
        and d.day between s.from_day and s.last_day
    group by d.account, d.type
),

choices as (
    select null::varchar as account, type, sum(tasks) as tasks, count(*) over () as alike from held group by type
    union all
    select account, null, sum(tasks), count(*) over () from held group by account
)

select account, type
from choices
where alike > 1 and tasks >= 100
qualify row_number() over (partition by account is null order by tasks desc, account, type) <= 4
order by account is null, tasks desc, account, type
