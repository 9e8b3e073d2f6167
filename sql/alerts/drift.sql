/*
description: >-
  The API sends what the contract does not know, seen for the first time in the last 7 days: a column may be missing,
  or a value may have left its type. Nothing is lost: payloads are kept whole.
severity: notice
command: task-archive query "from drift where is_new"
*/

select
    account || ' ' || kind || ' ' || path as subject,
    format('{}: drift, {} seen {:,} times since {} UTC', account, kind, observations, strftime(first_seen_at, '%Y-%m-%d %H:%M'))
        as summary,
    path as quote,
    1 as score,
    kind,
    observations,
    first_seen_at
from drift
where is_new
order by first_seen_at, subject
