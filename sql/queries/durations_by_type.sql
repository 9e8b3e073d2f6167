/*
description: 'How long completed tasks take, by type: seconds on the server and from creation to the end.'
*/

select
    type,
    count(*) as completed_tasks,
    round(percentile_cont(0.5) within group (order by server_time_seconds), 1) as p50_server_time_seconds,
    round(percentile_cont(0.95) within group (order by server_time_seconds), 1) as p95_server_time_seconds,
    round(percentile_cont(0.5) within group (order by turnaround_seconds), 1) as p50_turnaround_seconds,
    round(percentile_cont(0.95) within group (order by turnaround_seconds), 1) as p95_turnaround_seconds,
    round(percentile_cont(0.5) within group (order by real_time_factor), 3) as p50_real_time_factor
from fact_tasks
where is_completed
group by all
order by completed_tasks desc
