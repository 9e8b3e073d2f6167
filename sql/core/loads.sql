/*
description: 'Every load with its proof: what was asked, what came, and whether anything is missing.'
key: [load_id]
checks:
  - verdict in ('whole', 'limited', 'broken')
*/

with parsed as (
    select
        from_json(
            manifest,
            '{
                "load_id": "VARCHAR", "account": "VARCHAR", "lane": "VARCHAR", "api_url": "VARCHAR",
                "code_version": "VARCHAR", "run_id": "VARCHAR",
                "window": {
                    "updated_from_ms": "BIGINT", "created_from_ms": "BIGINT", "created_to_ms": "BIGINT"
                },
                "started_at_ms": "BIGINT", "finished_at_ms": "BIGINT", "proven_until_ms": "BIGINT",
                "clock_skew_seconds": "DOUBLE", "requests": "BIGINT", "attempts_repeated": "BIGINT",
                "bytes_received": "BIGINT", "pages": "BIGINT", "rows_read": "BIGINT", "rows_landed": "BIGINT",
                "tasks_seen": "BIGINT", "appeared": "BIGINT", "changed": "BIGINT", "unchanged": "BIGINT",
                "digest_ids": "VARCHAR", "digest_states": "VARCHAR",
                "overlap_rows": "BIGINT", "overlap_equal": "BIGINT", "looked_up": ["VARCHAR"],
                "vanished": ["VARCHAR"], "deleted": ["VARCHAR"],
                "unreadable": [{"task_id": "VARCHAR", "reason": "VARCHAR"}],
                "server_count_before": "BIGINT", "server_count_after": "BIGINT",
                "settled_until_ms": "BIGINT", "settled_count": "BIGINT", "settled_seen": "BIGINT",
                "verdict": "VARCHAR", "reasons": ["VARCHAR"],
                "abilities": {"id_keyset": "BOOLEAN", "filters": "BOOLEAN", "count": "BOOLEAN"},
                "parts": [{"bytes": "BIGINT"}]
            }'
        ) as load
    from manifests
)

select
    load.load_id as load_id,                                                  -- the load; ids sort in the order of loads
    load.account as account,                                                  -- account it fetched
    load.lane as lane,                                                        -- sweep, changes, observe, backfill or refresh; range: ids of the sweep that comes after it, fetched by one of several workers; events: what webhooks delivered
    make_timestamptz(load.started_at_ms * 1000) as started_at,                -- when it began, UTC
    make_timestamptz(load.finished_at_ms * 1000) as finished_at,              -- when it was complete, UTC
    make_timestamptz(load.proven_until_ms * 1000) as proven_until_at,         -- the archive holds every change up to here, UTC, by the server's clock
    make_timestamptz(load."window".updated_from_ms * 1000) as updated_from_at, -- changes asked for from here on, UTC
    make_timestamptz(load."window".created_from_ms * 1000) as created_from_at, -- tasks created from here on, UTC
    make_timestamptz(load."window".created_to_ms * 1000) as created_to_at,    -- and before, UTC
    load.verdict as verdict,                                                  -- whole, limited (whole but for the reasons) or broken
    load.reasons as reasons,                                                  -- what the proof lacks
    load.requests as requests,                                                -- requests sent, repeated attempts included
    load.attempts_repeated as attempts_repeated,                              -- attempts that failed and were repeated
    load.bytes_received as received_bytes,                                    -- size of the answers, bytes
    load.pages as pages,                                                      -- pages read
    load.rows_read as rows_read,                                              -- rows on them, re-read ones included
    load.rows_landed as rows_landed,                                          -- rows that were new or changed, and landed
    list_sum(list_transform(load.parts, lambda part: part.bytes))::bigint as landed_bytes, -- size of the landed files, bytes
    load.tasks_seen as tasks_seen,                                            -- distinct tasks read
    load.digest_ids as digest_ids,                                            -- digest of their ids: the sum modulo 2^64 of ('0x' || left(sha256(task_id), 16))::ubigint, in hex
    load.digest_states as digest_states,                                      -- the same of task_id || ':' || updatedAt in epoch milliseconds, as met last; nothing behind the colon where it has none
    load.appeared as tasks_appeared,                                          -- of which the archive had not known; which they are, the rows say that landed with this load_id
    load.changed as tasks_changed,                                            -- states that differ from the newest known, or from a stale one met since; they landed with this load_id as well
    load.unchanged as rows_unchanged,                                         -- rows found equal to what had landed
    load.overlap_rows as overlap_tasks,                                       -- tasks read again whose last change lies before the point proven until then
    load.overlap_equal as overlap_tasks_equal,                                -- of which equal to what had landed; the others had become visible late
    load.looked_up as looked_up_task_ids,                                     -- open tasks that an observe run asked for by id, their last change lying before its window
    load.vanished as vanished_task_ids,                                       -- archived tasks that the list shows no more
    load.deleted as deleted_task_ids,                                         -- of which the API says that they are deleted
    load.unreadable as missing_tasks,                                         -- tasks that the list could not serve, with the reason
    load.server_count_before as server_count_before,                          -- tasks in the window in the server's count, before
    load.server_count_after as server_count_after,                            -- and afterwards
    make_timestamptz(load.settled_until_ms * 1000) as settled_until_at,       -- tasks created before are settled, UTC: no insert during the load and no delay adds to them
    load.settled_count as settled_server_count,                               -- settled tasks in the server's count before the load
    load.settled_seen as settled_tasks_seen,                                  -- settled tasks read, with those that tell no time of creation; fewer than counted is said in reasons
    load.clock_skew_seconds as clock_skew_seconds,                            -- our clock minus the server's, seconds: the median over the answers up to its first part, whose Dates are whole seconds
    load.abilities.id_keyset as has_id_keyset,                                -- whether the server pages by id
    load.abilities.filters as has_filters,                                    -- whether the server filters by time
    load.abilities.count as has_count,                                        -- whether the server counts
    load.api_url as api_url,                                                  -- base URL of the API
    load.code_version as code_version,                                        -- version of this program
    load.run_id as run_id                                                     -- Dagster run; of a load that was resumed, the last one
from parsed
order by load_id
