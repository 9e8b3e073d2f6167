/*
description: Why attempts fail, retried ones included, and how many of their tasks a later attempt rescued.
*/

select type, template, owner, failed_attempts, tasks, rescued_tasks, last_failed_at, example_task_id
from attempt_errors
order by failed_attempts desc
limit 20
