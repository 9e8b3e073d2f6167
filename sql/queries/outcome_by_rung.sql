/*
description: >-
  How tasks end, and how fast, by the rung of the encoding ladder that was asked for; default: no ladder was asked
  for.
*/

select
    type, rung, tasks, ended_tasks, failed_tasks,
    round(100 * failure_rate, 2) as failed_percent,
    round(100 * platform_fault_rate, 2) as platform_fault_percent,
    round(p50_real_time_factor, 3) as p50_real_time_factor,
    round(p95_real_time_factor, 3) as p95_real_time_factor,
    round(p95_server_time_seconds, 1) as p95_server_time_seconds
from ladder
order by type, height desc nulls last, rung
