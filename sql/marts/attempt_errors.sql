-- Why attempts failed, retried ones included: error texts by account and type, with what became of the tasks.
-- Attempts that no observation caught are missing; daily_history_stats tells the coverage.
-- key: account, type, error_message
-- check: failed_attempts > 0 and rescued_tasks <= tasks

select
    a.account,                                                                -- account
    coalesce(a.type, 'unknown') as type,                                      -- task type
    coalesce(a.error_message, '(no error message)') as error_message,         -- the server's words; secrets redacted
    count(*) as failed_attempts,                                              -- attempts that failed with it
    count(*) filter (where a.outcome = 'failed' and t.phase = 'failed' and a.ended_at_latest = t.finished_at) as final_attempts, -- of which the task stands as failed with
    count(distinct a.task_id) as tasks,                                       -- tasks whose attempts they were
    count(distinct a.task_id) filter (where t.phase = 'completed') as rescued_tasks, -- of which completed in a later attempt
    min(a.ended_at_latest) as first_failed_at,                                -- first of the failures, at the latest, UTC
    max(a.ended_at_latest) as last_failed_at,                                 -- last of them, at the latest, UTC
    max_by(a.task_id, a.ended_at_latest) as example_task_id                   -- the task of the last one
from task_attempts as a
inner join tasks as t on a.task_id = t.task_id
where a.outcome = 'failed'
group by a.account, coalesce(a.type, 'unknown'), coalesce(a.error_message, '(no error message)')
order by account, failed_attempts desc, type, error_message
