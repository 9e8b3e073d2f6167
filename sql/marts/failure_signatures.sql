/*
description: 'Why tasks failed: the failures that stand, by account, type and signature, with whose fault they are.'
key: [account, type, signature_id]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - failed_tasks > 0
metrics:
  - columns: [failed_tasks]
    formula: tasks that stand as failed with the signature
    unit: tasks
    population: failed tasks
    excludes: 'attempts that a retry rescued: see attempt_errors'
    filter: is_failed
    n: failed_tasks
    caveat: a failed task may still be retried
    better: lower
*/

with todays as (
    select a.account, local_date(a.known_until_at, x.time_zone) as today
    from freshness as a
    cross join thresholds as x
),

templates as (
    select signature_id, min(template) as template, min(advice) as advice from error_texts group by signature_id
),

failed as (
    select
        f.*,
        t.template,
        t.advice,
        f.finished_day < d.today and f.finished_day >= d.today - interval 7 day as is_of_last_7_days,
        f.finished_day < d.today - interval 7 day and f.finished_day >= d.today - interval 14 day as is_of_7_days_before,
        row_number() over (
            partition by f.account, f.type, f.signature_id order by f.finished_at desc nulls last, f.task_id desc
        ) as recency
    from fact_tasks as f
    inner join todays as d on f.account = d.account
    inner join templates as t on f.signature_id = t.signature_id
    where f.is_failed
)

select
    account,                                                                  -- account
    type,                                                                     -- task type
    signature_id,                                                             -- short name of the template, the same in every archive
    min(template) as template,                                                -- the error text without what differs from task to task
    min(failure_owner) as owner,                                              -- who is to act: user, platform or unknown
    min(advice) as advice,                                                    -- what to do about it; null where the owner is unknown
    count(*) as failed_tasks,
    count(*) / sum(count(*)) over (partition by account) as share_of_failures, -- of all failed tasks of the account
    count(*) filter (where is_of_last_7_days) as failed_tasks_last_7_days,    -- of the last 7 whole days that the archive knows, by the day of failure
    count(*) filter (where is_of_7_days_before) as failed_tasks_7_days_before, -- and of the 7 days before
    min(finished_at) as first_failed_at,                                      -- first of them, UTC
    max(finished_at) as last_failed_at,                                       -- last of them, UTC
    concat_ws(
        ', ',
        max(task_id) filter (where recency = 1),
        max(task_id) filter (where recency = 2),
        max(task_id) filter (where recency = 3)
    ) as example_task_ids                                                     -- ids of the last three
from failed
group by account, type, signature_id
order by account, failed_tasks desc, type, signature_id
