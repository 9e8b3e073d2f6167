/*
description: >-
  Each error text that was ever observed, with its template: the text without what differs from task to task. Tasks
  that failed for the same reason have the same template, and so the same signature.
key: [error_message]
checks:
  - owner in ('user', 'platform', 'unknown')
*/

with texts as (
    select distinct error_message from task_history where error_message is not null
    union
    select '' as error_message
),

-- One after the other. An HTTP status is no number that differs: it tells the reason, and is kept aside meanwhile.
rules(part, pattern, becomes) as (
    values
        (0, '\s+', ' '),
        (1, '[A-Za-z][A-Za-z0-9+.-]*://[^\s"''<>()]+', '<url>'),
        (2, 'redacted-[0-9a-f]+', '<secret>'),
        (3, '\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b', '<id>'),
        (4, '\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z| ?[+-]\d\d:?\d\d)?', '<time>'),
        (5, '(^|[\s"''(=\[])((/[\w.@%+~-]+){2,}/?|[A-Za-z]:\\[\w.\\-]+)', '\1<path>'),
        (6, '\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b', '<address>'),
        (7, '\b([45]\d\d) ([A-Z][a-z])', 'http_\1_ \2'),
        (8, '(?i)\b((?:http(?:/[\d.]+)?|status|code|response)[ :=]+)([45]\d\d)\b', '\1http_\2_'),
        (9, '\b(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+\b', '<duration>'),
        (10, '(?i)\b\d+(\.\d+)? ?(milliseconds?|seconds?|secs?|minutes?|mins?|hours?|days?)\b', '<duration>'),
        (11, '[A-Za-z0-9+/]{40,}={0,2}', '<id>'),
        (12, '\b\d+([.,x]\d+)*\b', '<number>'),
        (13, '\b([0-9a-fA-F]{8,}|\w{4,}\d\w{7,}|\w{7,}\d\w{4,}|\d\w{11,}|\w{11,}\d)\b', '<id>'),
        (14, 'http_(\d+)_', '\1')
),

templates as (
    select
        error_message,
        coalesce(nullif(left(trim(list_reduce(
            (select list({'pattern': pattern, 'becomes': becomes} order by part) from rules),
            lambda text, rule: {'pattern': '', 'becomes': regexp_replace(text.becomes, rule.pattern, rule.becomes, 'g')},
            {'pattern': '', 'becomes': error_message}
        ).becomes), 300), ''), '(no error message)') as template
    from texts
),

owned as (
    select template, arg_min(owner, position) as owner, arg_min(advice, position) as advice
    from (select distinct template from templates) as t
    inner join signature_owners on template ilike pattern
    group by template
)

select
    error_message,                                      -- the server's words, secrets redacted; empty: none
    template,                                           -- what it has in common with others: ids, URLs, paths, addresses, times, durations and numbers are taken out
    left(sha256(template), 12) as signature_id,         -- short name of the template, the same in every archive
    coalesce(owner, 'unknown') as owner,                -- who is to act: user, platform, or unknown where signature_owners has no pattern for it
    advice                                              -- what to do about it; null where the owner is unknown
from templates
left join owned using (template)
order by error_message
