-- How fresh and how whole the archive is, by account: its last load with the proof, and what it holds.
with last_loads as (
    select
        account,
        max(proven_until_at) as proven_until_at,
        max(finished_at) filter (where lane = 'sweep' and verdict = 'whole') as last_whole_sweep_at,
        max(finished_at) as last_load_at,
        max_by(lane, load_id) as lane,
        max_by(verdict, load_id) as verdict,
        array_to_string(max_by(reasons, load_id), '; ') as reasons,
        len(max_by(missing_tasks, load_id)) as missing_tasks
    from loads
    group by account
),

held as (
    select account, count(*) as tasks, count(*) filter (where is_open) as open_tasks from fact_tasks group by account
)

select
    l.account,
    l.proven_until_at,
    l.verdict,
    l.lane as last_lane,
    l.last_load_at,
    l.last_whole_sweep_at,
    l.missing_tasks,
    l.reasons,
    coalesce(h.tasks, 0) as tasks,
    coalesce(h.open_tasks, 0) as open_tasks
from last_loads as l
cross join scope as s
left join held as h on l.account = h.account
where l.account = coalesce(s.account, l.account)
order by l.account
