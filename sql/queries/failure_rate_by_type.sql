/*
description: >-
  How often tasks fail, by type: the rate with its denominator, and how much of it is the platform's fault.
*/

select
    type,
    count(*) filter (where is_failed) as failed_tasks,
    count(*) filter (where is_ended) as ended_tasks,
    round(100.0 * count(*) filter (where is_failed) / nullif(count(*) filter (where is_ended), 0), 2) as failed_percent,
    round(100.0 * count(*) filter (where failure_owner = 'platform') / nullif(count(*) filter (where is_ended), 0), 2) as platform_fault_percent,
    count(*) filter (where is_open) as open_tasks
from fact_tasks
group by all
order by ended_tasks desc
