/*
description: >-
  Tasks fail in a way that no task of the account failed before, and that is not known to be the user's fault: the
  first of them failed in the last 2 days, which is longer than a night that was missed, and the account has tasks
  of 7 days before. So neither a new account nor the first run on an old one finds everything new.
severity: notice
command: task-archive query why_tasks_fail
*/

with known as (
    select account, min(created_at) as known_from from tasks group by account
),

signatures as (
    select
        account,
        signature_id,
        any_value(template) as template,
        any_value(owner) as owner,
        string_agg(type, ', ' order by type) as types,
        sum(failed_tasks)::bigint as failed_tasks,
        min(first_failed_at) as first_failed_at,
        arg_max(example_task_ids, last_failed_at) as example_task_ids
    from failure_signatures
    group by account, signature_id
)

select
    account || ' ' || signature_id as subject,
    format(
        '{}: a new failure since {} UTC, {:,} tasks ({}), {}',
        account, strftime(first_failed_at, '%Y-%m-%d %H:%M'), failed_tasks, types,
        if(owner = 'platform', 'the platform''s fault', 'whose fault is not known')
    ) as summary,
    template as quote,
    1 as score,
    signature_id,
    owner,
    types,
    failed_tasks,
    first_failed_at,
    example_task_ids
from signatures
inner join freshness using (account)
inner join known using (account)
where owner <> 'user' and first_failed_at > known_until_at - interval 2 day and first_failed_at > known_from + interval 7 day
order by failed_tasks desc, subject
