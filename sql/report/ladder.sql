/*
description: >-
  How tasks end, and how fast they are, by the rungs of the encoding ladder that they asked for: the tasks of the
  whole archive. A task counts in each of its rungs. Several accounts are kept apart: the one with the most tasks
  comes first.
metrics: [ladder.failure_rate, ladder.p50_real_time_factor]
section: Media
place: 70
caption: Tasks by the rungs of the ladder that they asked for
columns:
  - account
  - type
  - rung
  - asked_tasks
  - failed_tasks
  - ended_tasks
  - failure_rate
  - low_failure_rate
  - high_failure_rate
  - tasks_with_real_time_factor
  - p50_real_time_factor
  - p95_real_time_factor
  - p95_server_time_seconds
otherwise: No task asked for renditions.
charts:
  - kind: ranges
    like_first: [type, account]
    heading: '{type}{of_account}: failure rate by rung'
    title: failed / ended tasks
    y: rung
    fields: {failure_rate: blue}
    band: [low_failure_rate, high_failure_rate]
    tooltip: [ended_tasks]
    height: 26
  - kind: ranges
    like_first: [type, account]
    heading: '{type}{of_account}: real-time factor by rung'
    title: server time / media duration, p50 to p95
    y: rung
    fields: {p50_real_time_factor: blue}
    band: [p50_real_time_factor, p95_real_time_factor]
    tooltip: [tasks_with_real_time_factor]
    height: 26
*/

with rungs as (
    select
        l.*,
        case when l.failure_rate is not null then wilson(l.failed_tasks, l.ended_tasks) end as band,
        row_number() over in_order as place,
        first_value(l.account || ' ' || l.type) over in_order = l.account || ' ' || l.type as is_like_first
    from (
        select l.*, sum(l.tasks) over (partition by l.account, l.type) as tasks_of_type
        from ladder as l
        cross join scope as s
        where l.account = coalesce(s.account, l.account) and l.type = coalesce(s.type, l.type)
    ) as l
    window in_order as (order by l.tasks_of_type desc, l.account, l.type, l.height desc nulls last, l.rung)
),

ends as (
    select
        max_by({'rung': rung, 'rate': failure_rate, 'low': band.low}, (failure_rate, -place)) as worst,
        min_by({'rung': rung, 'rate': failure_rate, 'high': band.high}, (failure_rate, place)) as best
    from rungs
    where is_like_first and failure_rate is not null
)

select
    r.account,
    r.type,
    r.rung,
    r.tasks as asked_tasks,
    r.failed_tasks,
    r.ended_tasks,
    r.failure_rate,
    r.band.low as low_failure_rate,
    r.band.high as high_failure_rate,
    r.tasks_with_real_time_factor,
    r.p50_real_time_factor,
    r.p95_real_time_factor,
    r.p95_server_time_seconds,
    e.worst.rung as worst_rung,
    e.worst.rate as worst_rate,
    e.best.rung as best_rung,
    e.best.rate as best_rate,
    case when len(s.accounts) > 1 then ' of account ' || r.account else '' end as of_account,
    '{type}{of_account}'
    || case
        when e.worst is null then ': too few tasks ended to tell the rungs apart'
        when e.worst.low <= e.best.high then ': the rungs fail alike, {best_rate:percent} to {worst_rate:percent}'
        else ': of the rungs, {worst_rung} fails most, {worst_rate:percent}, and {best_rung} least, {best_rate:percent}'
    end as finding,
    'Of the whole archive. A task counts in each of its rungs: what is asked together fails together.' as note
from rungs as r
cross join ends as e
cross join scope as s
order by r.place
