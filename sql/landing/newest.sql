-- The newest state of each task. Read by the core tables, not published.
-- A sweep that met a task in an unchanged state lands nothing of it; that it was seen follows from the sweep's proof.
-- as: view

with last_sweep as (
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
    coalesce(s.first_seen_at, o.fetched_at) as first_seen_at,
    case
        when s.is_deleted or v.task_id is not null or o.fetched_at > w.started_at then coalesce(s.last_fetched_at, o.fetched_at)
        else greatest(coalesce(s.last_fetched_at, o.fetched_at), coalesce(w.finished_at, o.fetched_at))
    end as last_seen_at,
    case when s.is_deleted then s.deleted_seen_at end as deleted_at
from observations as o
inner join sightings as s
    on
        o.task_id = s.task_id
        and o.account = s.newest.account
        and o.load_id = s.newest.load_id
        and o.page = s.newest.page
        and o.position = s.newest.position
left join last_sweep as w on o.account = w.account
left join vanished as v on o.account = v.account and o.task_id = v.task_id
