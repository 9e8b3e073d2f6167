/*
description: The last loads and their proofs.
*/

select
    l.load_id,
    l.account,
    l.lane,
    l.finished_at,
    l.verdict,
    l.tasks_seen,
    l.server_count_after as server_count,
    l.tasks_appeared as new_tasks,
    l.tasks_changed as changed_tasks,
    len(l.deleted_task_ids) as deleted_tasks,
    l.proven_until_at,
    array_to_string(l.reasons, '; ') as reasons
from loads as l
cross join scope as s
where l.account = coalesce(s.account, l.account)
order by l.load_id desc
limit 20
