/*
description: >-
  What comes in and how fast it is done: completed tasks by codec, height and length of their source, those of the
  whole archive, the sixty kinds with the most tasks; `share` is of those of the account. Failed tasks have no
  probe.
metrics: [sources.completed_tasks, sources.p50_real_time_factor]
*/

with most as (
    select c.*, c.completed_tasks / sum(c.completed_tasks) over (partition by c.account) as share
    from sources as c
    cross join scope as s
    where c.account = coalesce(s.account, c.account) and c.type = coalesce(s.type, c.type)
    order by c.completed_tasks desc, c.account, c.type, c.codec, c.height_class, c.duration_bucket
    limit 60
)

select
    account,
    type,
    codec || ' ' || height_class as source,
    duration_bucket as length,
    completed_tasks,
    share,
    media_minutes,
    tasks_with_real_time_factor,
    p50_real_time_factor,
    p95_real_time_factor,
    p95_server_time_seconds
from most
order by completed_tasks desc, account, type, source, length
