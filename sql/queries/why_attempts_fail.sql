-- Why attempts fail, those that a retry rescued included: error texts with what became of their tasks.
select type, error_message, failed_attempts, tasks, rescued_tasks, last_failed_at, example_task_id
from attempt_errors
order by failed_attempts desc
limit 20
