/*
description: >-
  Are tasks getting slower? Completed tasks by type and week of creation, the newest week first. A real-time factor
  below 1 is faster than real time, and does not depend on how long the videos of a week are.
*/

select
    cast(date_trunc('week', created_day) as date) as week,
    type,
    count(*) as completed_tasks,
    round(percentile_cont(0.5) within group (order by real_time_factor), 3) as p50_real_time_factor,
    round(percentile_cont(0.95) within group (order by real_time_factor), 3) as p95_real_time_factor,
    round(percentile_cont(0.5) within group (order by turnaround_seconds), 1) as p50_turnaround_seconds,
    round(percentile_cont(0.95) within group (order by turnaround_seconds), 1) as p95_turnaround_seconds
from fact_tasks
where is_completed
group by all
having count(*) >= 20
order by week desc, completed_tasks desc
