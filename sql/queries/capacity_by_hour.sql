/*
description: >-
  Tasks under way at once in the last 48 full hours (UTC): an upper bound of what was processed at once, queueing
  included.
*/

select
    hour_at, tasks_under_way, peak_concurrent_tasks,
    round(mean_concurrent_tasks, 1) as mean_concurrent_tasks,
    concurrency_limit, round(100 * share_of_limit) as percent_of_limit
from capacity
order by hour_at desc
limit 48
