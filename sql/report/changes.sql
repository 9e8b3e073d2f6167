/*
description: >-
  What changed since the last whole day began: failures of a kind that was not there before, tasks whose outcome
  changed after they had ended, tasks that ended late, deletions, fields outside the contract, anomalies (of all
  types together, or of the type that the report is about), targets that the day or the 28 days up to it missed, and
  tasks that are stuck now.
*/

with of_targets as (
    select
        o.type,
        any_value(o.target_share) as target_share,
        any_value(o.target_seconds) as target_seconds,
        sum(o.eligible_tasks) filter (where o.day = s.last_day) as eligible_tasks,
        sum(o.good_tasks) filter (where o.day = s.last_day) as good_tasks,
        sum(o.eligible_tasks) as window_eligible_tasks,
        sum(o.good_tasks) as window_good_tasks
    from slo as o
    cross join scope as s
    where
        o.day between s.last_day - 27 and s.last_day
        and o.account = coalesce(s.account, o.account)
        and o.type = coalesce(s.type, o.type)
    group by o.type
),

missed_targets as (
    select
        'missed_target' as kind,
        o.type
        || case
            when o.eligible_tasks >= m.of_day and o.good_tasks / o.eligible_tasks < o.target_share
                then ', ' || round(100 * o.good_tasks / o.eligible_tasks, 1) || ' % of the day'
            else ''
        end
        || case
            when o.window_eligible_tasks >= m.of_window and o.window_good_tasks / o.window_eligible_tasks < o.target_share
                then ', ' || round(100 * o.window_good_tasks / o.window_eligible_tasks, 1) || ' % of 28 days'
            else ''
        end
        || ' instead of ' || round(100 * o.target_share, 1) || ' % in '
        || case
            when o.target_seconds % 60 = 0 then (o.target_seconds / 60)::bigint || ' min' else o.target_seconds || ' s'
        end as what,
        null::varchar as owner,
        null::bigint as tasks,
        null::timestamptz as since_at,
        null::varchar as example_task_id
    from of_targets as o
    cross join (
        select
            max(minimum_n) filter (where metric = 'attainment') as of_day,
            max(minimum_n) filter (where metric = 'window_attainment') as of_window
        from metrics
        where table_name = 'slo'
    ) as m
    where
        (o.eligible_tasks >= m.of_day and o.good_tasks / o.eligible_tasks < o.target_share)
        or (o.window_eligible_tasks >= m.of_window and o.window_good_tasks / o.window_eligible_tasks < o.target_share)
),

new_signatures as (
    select
        'new_signature' as kind,
        min(f.template) as what,
        min(f.owner) as owner,
        sum(f.failed_tasks)::bigint as tasks,
        min(f.first_failed_at) as since_at,
        split_part(min(f.example_task_ids), ', ', 1) as example_task_id
    from failure_signatures as f
    cross join scope as s
    where f.account = coalesce(s.account, f.account) and f.type = coalesce(s.type, f.type)
    group by f.signature_id, s.since_at
    having min(f.first_failed_at) >= s.since_at
),

flips as (
    select
        'flip' as kind,
        i.phase || ' → ' || t.phase as what,
        null::varchar as owner,
        count(distinct t.task_id) as tasks,
        min(i.ended_at_latest) as since_at,
        max(t.task_id) as example_task_id
    from task_intervals as i
    inner join fact_tasks as t on i.task_id = t.task_id
    cross join scope as s
    where
        i.phase in ('completed', 'failed', 'cancelled')
        and i.ended_at_latest >= s.since_at
        and i.next_phase <> 'deleted'
        and i.phase <> t.phase
        and t.account = coalesce(s.account, t.account)
        and t.type = coalesce(s.type, t.type)
    group by i.phase, t.phase
),

late_ends as (
    select
        'late_end' as kind,
        t.phase as what,
        null::varchar as owner,
        count(*) as tasks,
        min(t.finished_at) as since_at,
        max_by(t.task_id, t.turnaround_seconds) as example_task_id
    from fact_tasks as t
    cross join scope as s
    where
        t.is_ended
        and t.finished_at >= s.since_at
        and t.finished_day > t.created_day + 1
        and t.account = coalesce(s.account, t.account)
        and t.type = coalesce(s.type, t.type)
    group by t.phase
),

deletions as (
    select
        'deletion' as kind,
        null::varchar as what,
        null::varchar as owner,
        count(*) as tasks,
        min(t.deleted_at) as since_at,
        max(t.task_id) as example_task_id
    from tasks as t
    cross join scope as s
    where
        t.deleted_at >= s.since_at
        and t.account = coalesce(s.account, t.account)
        and coalesce(t.type, 'unknown') = coalesce(s.type, t.type, 'unknown')
    having count(*) > 0
),

drifted as (
    select
        'drift' as kind,
        d.kind || ' ' || d.path as what,
        null::varchar as owner,
        sum(d.observations)::bigint as tasks,
        min(d.first_seen_at) as since_at,
        min(d.example_task_id) as example_task_id
    from drift as d
    cross join scope as s
    where d.account = coalesce(s.account, d.account)
    group by d.kind, d.path, s.since_at
    having min(d.first_seen_at) >= s.since_at
),

odd as (
    select
        'anomaly' as kind,
        case when len(s.accounts) > 1 then a.account || ': ' else '' end || a.reason as what,
        null::varchar as owner,
        null::bigint as tasks,
        a.started_at as since_at,
        null::varchar as example_task_id
    from anomalies as a
    cross join scope as s
    where
        a.started_at >= s.since_at
        and a.account = coalesce(s.account, a.account)
        and a.type = coalesce(s.type, 'all')
),

stuck as (
    select
        'stuck' as kind,
        t.phase as what,
        null::varchar as owner,
        count(*) as tasks,
        min(t.created_at) as since_at,
        min_by(t.task_id, t.created_at) as example_task_id
    from fact_tasks as t
    cross join scope as s
    where t.is_stuck and t.account = coalesce(s.account, t.account) and t.type = coalesce(s.type, t.type)
    group by t.phase
)

from missed_targets
union all
from new_signatures
union all
from flips
union all
from late_ends
union all
from deletions
union all
from drifted
union all
from odd
union all
from stuck
order by kind, tasks desc, since_at, what
