/*
description: 'The task_history table as it stood at a moment: the states that the loads complete by then had found.'
parameters: [moment]
*/

with told as (
    select load_id from main.loads where finished_at <= moment
)

select
    history.* replace (
        row_number() over (partition by task_id order by position) - 1 as position,
        case when closed_by.load_id is not null then last_observed_at end as last_observed_at,
        case when closed_by.load_id is not null then stood_until_at end as stood_until_at,
        closed_by.load_id as closed_by_load_id
    )
from main.task_history as history
inner join told using (load_id)
left join told as closed_by on history.closed_by_load_id = closed_by.load_id
