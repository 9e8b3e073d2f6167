-- What all observations of a task tell together, one row a task. Read by newest, not published.
-- The latest updatedAt counts as newest, then the latest fetched: a stale answer never replaces a newer state. Whether
-- a task is deleted, the latest fetched alone tells.
-- as: table

select
    task_id,
    max_by(
        {'account': account, 'load_id': load_id, 'page': page, 'position': position},
        row(coalesce(updated_at_ms, -1), load_id, page, position)
    ) filter (task.id is not null) as newest,
    max_by(is_deleted, row(load_id, page, position)) as is_deleted,
    max(fetched_at) filter (is_deleted) as deleted_seen_at,
    min(fetched_at) filter (not is_deleted) as first_seen_at,
    max(fetched_at) filter (not is_deleted) as last_fetched_at
from observations
where task_id is not null
group by task_id
