-- The states that stood as a task's newest when a load was complete and that a later load replaced, with their whole
-- payload. Read by superseded_tasks, not published.
-- as: view

select
    o.task_id,
    o.task,
    o.asset,
    s.state.account as account,
    s.state.load_id as load_id,
    s.state.payload_sha256 as payload_sha256,
    s.observed_at,
    s.known_at,
    s.first_seen_at,
    s.last_seen_at,
    s.deleted_at,
    s.deleted_after_at
from observations as o
inner join (from states where superseded_at > known_at) as s
    on
        o.task_id = s.task_id
        and o.account = s.state.account
        and o.load_id = s.state.load_id
        and o.page = s.state.page
        and o.position = s.state.position
