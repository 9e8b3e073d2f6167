-- The task_history table as it stood at a moment: the states that the loads complete by then had told of.
-- takes: moment

with proven as (
    select account, max(started_at) as proven_at, max(proven_until_at) as proven_until_at
    from main.loads
    where proven_until_at is not null and finished_at <= moment
    group by account
),

told as (
    select
        load_id,
        to_microseconds(cast(coalesce(clock_skew_seconds, 0) * 1000000 as bigint)) as skew
    from main.loads
    where finished_at <= moment
)

select
    history.* replace (
        row_number() over (partition by task_id order by position) - 1 as position,
        least(last_observed_at, greatest(first_observed_at, proven_at)) as last_observed_at,
        least(
            stood_until_at, greatest(updated_at, stood_from_at, first_observed_at - skew, proven_until_at)
        ) as stood_until_at
    )
from main.task_history as history
inner join told using (load_id)
left join proven using (account)
