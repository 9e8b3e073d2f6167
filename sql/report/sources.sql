/*
description: >-
  What comes in and how fast it is done: completed tasks by codec, height and length of their source, those of the
  whole archive, the sixty kinds with the most tasks; `share` is of those of the account. Failed tasks have no
  probe.
metrics: [sources.completed_tasks, sources.p50_real_time_factor]
section: Media
place: 71
caption: Completed tasks by their source
columns:
  - account
  - type
  - source
  - length
  - completed_tasks
  - share
  - media_minutes
  - tasks_with_real_time_factor
  - p50_real_time_factor
  - p95_real_time_factor
  - p95_server_time_seconds
otherwise: No completed task has a probed source.
charts:
  - kind: heat
    like_first: [type, account]
    heading: '{type}{of_account}: speed by source'
    title: server time / media duration, p50
    scale: sqrt
    from_zero: false
    x: length
    x_order: [under 1 min, 1 to 5 min, 5 to 15 min, 15 to 60 min, 1 to 3 h, 3 h and more]
    y: source
    fields: {p50_real_time_factor: red}
    tooltip: [p95_real_time_factor, completed_tasks]
    height: 20
*/

with most as (
    select c.*, c.completed_tasks / sum(c.completed_tasks) over (partition by c.account) as share
    from sources as c
    cross join scope as s
    where c.account = coalesce(s.account, c.account) and c.type = coalesce(s.type, c.type)
    order by c.completed_tasks desc, c.account, c.type, c.codec, c.height_class, c.duration_bucket
    limit 60
),

named as (
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
        p95_server_time_seconds,
        first_value(account) over (order by completed_tasks desc, account, type, codec || ' ' || height_class, duration_bucket) as first_account
    from most
),

slowest as (
    select max_by({'source': source, 'length': length, 'factor': p50_real_time_factor}, (p50_real_time_factor, completed_tasks)) as slow
    from named
    where account = first_account and p50_real_time_factor is not null
)

select
    n.* exclude (first_account),
    x.slow.source as slow_source,
    x.slow.length as slow_length,
    x.slow.factor as slow_factor,
    case when len(s.accounts) > 1 then ' of account ' || n.account else '' end as of_account,
    'Most often {source} of {length} comes in, {share:percent} of completed tasks{of_account}'
    || case
        when x.slow is not null
            then '; slowest for its length is {slow_source} of {slow_length}, {slow_factor:number} s per second of media'
        else ''
    end as finding,
    'Of the whole archive. Failed tasks have no probe: they do not show here.' as note
from named as n
cross join slowest as x
cross join scope as s
order by n.completed_tasks desc, n.account, n.type, n.source, n.length
