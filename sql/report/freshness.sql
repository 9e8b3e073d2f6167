/*
description: 'How fresh and how whole the archive is, by account: its last load with the proof, and what it holds.'
*/

with last_loads as (
    select
        account,
        max_by(lane, load_id) as lane,
        array_to_string(max_by(reasons, load_id), '; ') as reasons,
        len(max_by(missing_tasks, load_id)) as missing_tasks
    from loads
    group by account
),

held as (
    select
        account,
        count(*) as tasks,
        count(*) filter (where is_open) as open_tasks,
        count(*) filter (where is_abandoned) as abandoned_tasks
    from fact_tasks group by account
),

damaged as (
    select account, count(*) as damaged_files from damaged_files group by account
)

select
    f.account,
    f.proven_until_at,
    f.last_verdict,
    l.lane as last_lane,
    f.last_load_at,
    f.last_whole_sweep_at,
    l.missing_tasks,
    l.reasons,
    coalesce(d.damaged_files, 0) as damaged_files,
    coalesce(h.tasks, 0) as tasks,
    coalesce(h.open_tasks, 0) as open_tasks,
    coalesce(h.abandoned_tasks, 0) as abandoned_tasks
from freshness as f
inner join last_loads as l on f.account = l.account
cross join scope as s
left join held as h on f.account = h.account
left join damaged as d on f.account = d.account
where f.account = coalesce(s.account, f.account)
order by f.account
