/*
description: >-
  What is known of one task's life, in the order in which it came about: its creation, each time it was scheduled,
  and each state of it that was observed. Between two states that were observed others may have been.
parameters: [id]
*/

with states as (
    from main.task_history where task_id = id
)

select
    happened_at,                                        -- when it came about, UTC, by the server's clock
    event,                                              -- created, scheduled, deleted, or the phase that it was in
    progress,                                           -- share done, 0 to 1
    retries,                                            -- attempts repeated so far
    error_message,                                      -- why it failed, or why the attempt before failed
    observed_at,                                        -- when the archive first saw it, UTC, by its own clock
    observed_by,                                        -- lane that saw it
    load_id                                             -- load that saw it
from (
    select
        min(created_at) as happened_at, 'created' as event, null as progress, null as retries, null as error_message,
        min(first_observed_at) as observed_at, min_by(observed_by, position) as observed_by,
        min_by(load_id, position) as load_id, -2 as place
    from states
    having count(created_at) > 0
    union all
    select
        scheduled_at, 'scheduled', null, null, null,
        min(first_observed_at), min_by(observed_by, position), min_by(load_id, position), -1
    from states
    where scheduled_at is not null
    group by scheduled_at
    union all
    select
        stood_from_at, case when is_deleted then 'deleted' else coalesce(phase, 'no phase') end,
        progress, retries, error_message, first_observed_at, observed_by, load_id, position
    from states
)
order by happened_at, place
