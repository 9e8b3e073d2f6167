/*
description: The last loads and their proofs.
section: The archive
place: 91
caption: The last loads and their proofs
columns:
  - load_id
  - account
  - lane
  - finished_at
  - verdict
  - tasks_seen
  - server_count
  - new_tasks
  - changed_tasks
  - deleted_tasks
  - proven_until_at
  - reasons
otherwise: Nothing was loaded.
*/

with last as (
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
)

select
    *,
    count(*) over () as of_loads,
    count(*) filter (where verdict <> 'whole') over () as with_gap,
    case
        when count(*) filter (where verdict <> 'whole') over () > 0
            then '{with_gap:number} of the last {of_loads:count load} had a gap in the proof'
        when count(*) over () = 1 then 'The only load was proven whole'
        else 'Each of the last {of_loads:count load} was proven whole'
    end as finding
from last
order by load_id desc
