/*
description: >-
  What differs from the week before? Failure rate and p95 turnaround of the last seven whole days beside the seven
  before, by type, and whether the difference may be chance: see the macro compare_periods.
*/

select
    w.type,
    w.created_tasks,
    w.created_tasks_before,
    round(w.failure_rate * 100, 1) as failed_percent,
    round(w.failure_rate_before * 100, 1) as failed_percent_before,
    w.failure_rate_may_be_chance,
    w.completed_tasks,
    w.completed_tasks_before,
    round(w.p95_turnaround_seconds, 1) as p95_turnaround_seconds,
    round(w.p95_turnaround_seconds_before, 1) as p95_turnaround_seconds_before,
    w.p95_turnaround_seconds_may_be_chance,
    w.is_mature
from proven_day(null) as p
cross join lateral (from compare_periods(p.last_day, 7, 7, null, null)) as w
order by w.is_total desc, w.created_tasks desc, w.type
