/*
description: >-
  The tasks table as it stood at a moment: what the loads that were complete by then had found of each task, with the
  same columns. `from tasks_as_of(timestamptz '2026-11-17 06:00:00+00')`.
parameters: [moment]
*/

with told as (
    select load_id from main.loads where finished_at <= moment
),

replaced as (
    select s.task_id, max(s.known_at) as known_at
    from main.superseded_tasks as s
    where s.known_at <= moment and s.task_id not in (select t.task_id from main.tasks as t where t.known_at <= moment)
    group by s.task_id
),

stood as (
    from main.tasks
    where known_at <= moment
    union all
    from main.superseded_tasks
    semi join replaced using (task_id, known_at)
)

select
    stood.* replace (
        case when told.load_id is not null then stood.last_seen_at end as last_seen_at,
        told.load_id as closed_by_load_id
    )
from stood
left join told on stood.closed_by_load_id = told.load_id
