-- Why tasks failed: error texts of failed tasks by account and type, most frequent first.
-- key: account, type, error_message
-- check: failed_tasks > 0

with failed as (
    select
        account,
        coalesce(type, 'unknown') as type,
        coalesce(error_message, '(no error message)') as error_message,
        finished_at,
        task_id,
        row_number() over (
            partition by account, coalesce(type, 'unknown'), coalesce(error_message, '(no error message)')
            order by finished_at desc nulls last, task_id desc
        ) as recency
    from tasks
    where phase = 'failed'
)

select
    account,                                                                  -- account
    type,                                                                     -- task type
    error_message,                                                            -- the server's words; secrets redacted
    count(*) as failed_tasks,                                                 -- tasks that stand as failed with it
    count(*) * 1.0 / sum(count(*)) over (partition by account) as share_of_failures, -- of all failed tasks of the account
    min(finished_at) as first_failed_at,                                      -- first of them, UTC
    max(finished_at) as last_failed_at,                                       -- last of them, UTC
    max(task_id) filter (where recency = 1) as example_task_id                -- the last one
from failed
group by account, type, error_message
order by account, failed_tasks desc, type, error_message
