/*
description: >-
  How many tasks a retry rescued, by day of completion: at least, since only retries that the archive saw are known.
  The share is of the completed tasks that it saw before they ended, and unknown where it saw none.
*/

select
    day,
    sum(rescued_tasks) as rescued_tasks,
    sum(completed_tasks) as completed_tasks,
    sum(seen_completed_tasks) as seen_completed_tasks,
    round(100.0 * sum(rescued_tasks) / nullif(sum(seen_completed_tasks), 0), 2) as rescued_percent,
    round(100.0 * sum(seen_open_tasks) / sum(ended_tasks), 1) as coverage_percent
from daily_history_stats
group by all
order by day desc
limit 30
