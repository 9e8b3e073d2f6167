/*
description: >-
  Why tasks fail and whose fault it is: error signatures of the last 7 days beside the 7 before, and of all time.
*/

select
    type, template, owner, failed_tasks_last_7_days as last_7_days, failed_tasks_7_days_before as before,
    failed_tasks, round(100 * share_of_failures, 1) as share_percent, last_failed_at,
    split_part(example_task_ids, ', ', 1) as example_task_id
from failure_signatures
order by failed_tasks_last_7_days desc, failed_tasks desc, type, signature_id
limit 20
