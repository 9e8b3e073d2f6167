/*
description: Each observed state of a task with its whole payload. Read by newest and superseded, not published.
materialized: view
key: [task_id, load_id, observed_at]
*/

select
    o.task_id,
    o.task,
    o.asset,
    s.state.account as account,
    s.state.load_id as load_id,
    s.state.payload_sha256 as payload_sha256,
    s.observed_at,
    s.known_at,
    s.superseded_at,
    s.is_newest,
    s.first_seen_at,
    s.last_seen_at,
    s.closed_by_load_id,
    s.deleted_at,
    s.deleted_after_at
from observations as o
inner join states as s
    on
        o.task_id = s.task_id
        and o.account = s.state.account
        and o.load_id = s.state.load_id
        and o.page = s.state.page
        and o.position = s.state.position
