/*
description: >-
  How tasks end, and how fast they are, by the rungs of the encoding ladder that they asked for: the tasks of the
  whole archive. A task counts in each of its rungs. Several accounts are kept apart: the one with the most tasks
  comes first.
metrics: [ladder.failure_rate, ladder.p50_real_time_factor]
*/

select
    l.account,
    l.type,
    l.rung,
    l.tasks as asked_tasks,
    l.failed_tasks,
    l.ended_tasks,
    l.failure_rate,
    case when l.failure_rate is not null then wilson(l.failed_tasks, l.ended_tasks).low end as low_failure_rate,
    case when l.failure_rate is not null then wilson(l.failed_tasks, l.ended_tasks).high end as high_failure_rate,
    l.tasks_with_real_time_factor,
    l.p50_real_time_factor,
    l.p95_real_time_factor,
    l.p95_server_time_seconds
from ladder as l
cross join scope as s
where l.account = coalesce(s.account, l.account) and l.type = coalesce(s.type, l.type)
order by sum(l.tasks) over (partition by l.account, l.type) desc, l.account, l.type, l.height desc nulls last, l.rung
