-- The newest state of each task with what all its observations tell together. Read by the core tables, not published.
-- The latest updatedAt counts, then the latest fetched: a stale answer never replaces a newer state. Whether a task is
-- deleted, the latest fetched alone tells. A sweep that met a task in an unchanged state lands nothing of it; that it was
-- seen follows from the sweep's proof.

with told as (
    select
        task_id,
        max_by(
            {'load_id': load_id, 'page': page, 'position': position, 'account': account},
            row(task is not null, coalesce(updated_at_ms, -1), load_id, page, position)
        ) as newest,
        max_by(is_deleted, row(load_id, page, position)) as is_deleted,
        max(fetched_at) filter (where is_deleted) as deleted_seen_at,
        min(fetched_at) filter (where not is_deleted) as first_seen_at,
        max(fetched_at) filter (where not is_deleted) as last_fetched_at
    from observations
    where task_id is not null
    group by task_id
),

last_sweep as (
    select
        account,
        max(started_at) as started_at,
        max_by(finished_at, load_id) as finished_at,
        max_by(vanished_task_ids, load_id) as vanished_task_ids
    from loads
    where lane = 'sweep' and verdict != 'broken'
    group by account
),

vanished as (
    select account, unnest(vanished_task_ids) as task_id from last_sweep
)

select
    o.task_id,
    o.account,
    o.load_id,
    o.payload_sha256,
    o.task,
    o.asset,
    t.first_seen_at,
    case
        when t.is_deleted or v.task_id is not null or o.fetched_at > s.started_at then t.last_fetched_at
        else greatest(t.last_fetched_at, coalesce(s.finished_at, t.last_fetched_at))
    end as last_seen_at,
    case when t.is_deleted then t.deleted_seen_at end as deleted_at
from told as t
inner join observations as o
    on
        o.account = t.newest.account
        and o.load_id = t.newest.load_id
        and o.page = t.newest.page
        and o.position = t.newest.position
        and o.task_id = t.task_id
left join last_sweep as s on o.account = s.account
left join vanished as v on o.account = v.account and o.task_id = v.task_id
where o.task is not null
