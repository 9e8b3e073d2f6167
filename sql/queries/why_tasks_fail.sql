-- Why tasks fail: the most frequent error texts, with the last task that failed so.
select type, error_message, failed_tasks, round(100 * share_of_failures, 1) as share_percent, last_failed_at, example_task_id
from failure_reasons
order by failed_tasks desc
limit 20
