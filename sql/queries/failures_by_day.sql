/*
description: >-
  Failure rate by day of creation (in the time zone of the settings), all types; an immature day still has open
  tasks.
*/

select
    day,
    sum(failed_tasks) as failed_tasks,
    sum(completed_tasks + failed_tasks) as ended_tasks,
    round(100.0 * sum(failed_tasks) / nullif(sum(completed_tasks + failed_tasks), 0), 2) as failed_percent,
    bool_and(is_mature) as is_mature
from daily_task_stats
group by all
order by day desc
limit 30
