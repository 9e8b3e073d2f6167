/*
description: >-
  Are tasks getting slower? Completed tasks by type and week of creation, the newest week first: seven whole days each,
  the newest ends on the last whole day. A real-time factor below 1 is faster than real time, and does not depend on how
  long the videos of a week are.
*/

with of_weeks as (
    select f.*, (p.last_day - (7 * ((p.last_day - f.created_day) // 7))::integer) as week_to
    from fact_tasks as f
    cross join proven_day(null) as p
    where f.is_completed and f.created_day <= p.last_day
)

select
    (week_to - 6)::date as week_from,
    week_to::date as week_to,
    type,
    count(*) as completed_tasks,
    round(percentile_cont(0.5) within group (order by real_time_factor), 3) as p50_real_time_factor,
    round(percentile_cont(0.95) within group (order by real_time_factor), 3) as p95_real_time_factor,
    round(percentile_cont(0.5) within group (order by turnaround_seconds), 1) as p50_turnaround_seconds,
    round(percentile_cont(0.95) within group (order by turnaround_seconds), 1) as p95_turnaround_seconds
from of_weeks
group by all
having count(*) >= 20
order by week_to desc, completed_tasks desc
