/*
description: Open tasks and their age at each of the last 48 full hours (UTC), all types.
*/

select
    hour_at,
    sum(open_tasks) as open_tasks,
    round(max(p95_age_seconds) / 3600, 1) as p95_age_hours_of_worst_type,
    round(100.0 * sum(seen_open_tasks) / sum(open_tasks), 1) as coverage_percent
from hourly_backlog
group by all
order by hour_at desc
limit 48
