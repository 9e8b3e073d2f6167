/*
description: >-
  How long tasks wait in the queue and are worked on, by type: medians of the bounds, of tasks seen running, with
  the coverage.
*/

select
    type,
    count(*) as ended_tasks,
    count(*) filter (where was_seen_running) as seen_running_tasks,
    round(100.0 * count(*) filter (where was_seen_open) / count(*), 1) as coverage_percent,
    round(percentile_cont(0.5) within group (order by min_queue_wait_seconds) filter (where was_seen_running), 1) as p50_min_queue_seconds,
    round(percentile_cont(0.5) within group (order by max_queue_wait_seconds) filter (where was_seen_running), 1) as p50_max_queue_seconds,
    round(percentile_cont(0.5) within group (order by min_processing_seconds) filter (where was_seen_running), 1) as p50_min_processing_seconds,
    round(percentile_cont(0.5) within group (order by max_processing_seconds) filter (where was_seen_running), 1) as p50_max_processing_seconds
from processing_times
group by all
order by ended_tasks desc
