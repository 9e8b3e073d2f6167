/*
description: >-
  Why attempts failed, retried ones included: by account, type and error signature, with what became of the tasks.
  Attempts that no observation caught are missing; daily_history_stats tells the coverage.
key: [account, type, signature_id]
relationships:
  - {columns: [type], table: dim_type}
checks:
  - failed_attempts > 0 and rescued_tasks <= tasks
metrics:
  - columns: [failed_attempts]
    formula: attempts seen to have failed with the signature
    unit: attempts
    population: attempts that were observed
    excludes: attempts that failed and were repeated between two observations
    n: failed_attempts
    caveat: read it beside the coverage of daily_history_stats
    better: lower
  - columns: [rescued_tasks]
    formula: tasks that completed in an attempt after the one that failed
    unit: tasks
    population: tasks with an observed attempt that failed with the signature
    n: tasks
    caveat: read it beside the coverage of daily_history_stats
*/

with failed as (
    select a.*, e.signature_id, e.template, e.owner
    from task_attempts as a
    inner join error_texts as e on coalesce(a.error_message, '') = e.error_message
    where a.outcome = 'failed'
)

select
    a.account,                                                                -- account
    coalesce(t.type, 'unknown') as type,                                      -- task type
    a.signature_id,                                                           -- short name of the template, the same in every archive
    min(a.template) as template,                                              -- the error text without what differs from task to task
    min(a.owner) as owner,                                                    -- who is to act: user, platform or unknown
    count(*) as failed_attempts,
    count(*) filter (where t.phase = 'failed' and a.ended_at_latest = t.finished_at) as final_attempts, -- of which the task stands as failed with
    count(distinct a.task_id) as tasks,                                       -- tasks whose attempts they were
    count(distinct a.task_id) filter (where t.phase = 'completed') as rescued_tasks,
    min(a.ended_at_latest) as first_failed_at,                                -- first of the failures, at the latest, UTC
    max(a.ended_at_latest) as last_failed_at,                                 -- last of them, at the latest, UTC
    max_by(a.task_id, struct(coalesce(unix_millis(a.ended_at_latest), 0), a.task_id)) as example_task_id -- the task of the last one
from tasks as t
inner join failed as a on t.task_id = a.task_id
group by a.account, coalesce(t.type, 'unknown'), a.signature_id
order by account, failed_attempts desc, type, signature_id
