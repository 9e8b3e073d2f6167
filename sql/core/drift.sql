/*
description: >-
  Where payloads left the contract: fields that it does not know, values of other types, phases and task types
  unknown to us, fields missing that every task has. Nothing of it is lost: payloads are kept whole in the landing
  zone, and once the contract is extended, `task-archive rebuild` fills the new columns and empties this.
key: [account, kind, path]
checks:
  - observations > 0
warnings:
  - not is_new
*/

with met as (
    select
        account,
        'unknown path' as kind,
        path,
        observations,
        first_fetched_at,
        last_fetched_at,
        example_task_id,
        example
    from unknown_paths
    union all
    select
        account,
        case when path = '$' then 'no task' else 'other type' end as kind,
        regexp_replace(path, '\[\d+\]', '[]', 'g') as path,
        1 as observations,
        fetched_at as first_fetched_at,
        fetched_at as last_fetched_at,
        task_id as example_task_id,
        value as example
    from problems
    union all
    select account, kind, path, 1 as observations, fetched_at, fetched_at, task_id, example from misfits
),

clock as (
    select account, max(finished_at) as now_at from loads group by account
)

select
    met.account as account,                                                   -- account of the load
    kind,                                                                     -- unknown path, other type, unknown phase, unknown type, missing path or no task
    path,                                                                     -- where in the payload, as a JSON path, positions in lists left out; with the value for phases and types
    cast(sum(observations) as bigint) as observations,                        -- observed states that have it
    min(first_fetched_at) as first_seen_at,                                   -- first fetched, UTC
    max(last_fetched_at) as last_seen_at,                                     -- last fetched, UTC
    max_by(example_task_id, row(last_fetched_at, example_task_id, example)) as example_task_id, -- a task that has it; null where the payload has no id
    max_by(example, row(last_fetched_at, example_task_id, example)) as example, -- its value, shortened to 200 characters, secrets redacted
    min(first_fetched_at) > max(clock.now_at) - interval 7 days as is_new     -- whether it was first seen in the last 7 days of the account's loads
from met
left join clock on met.account = clock.account
group by met.account, kind, path
order by met.account, kind, path
