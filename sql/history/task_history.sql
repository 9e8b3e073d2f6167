/*
description: >-
  Every state of a task that was observed, in the order in which they came about. What changed between two
  observations is not known. A task that was seen gone has a row for it, and another when it came back.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
checks:
  - position >= 0 and first_observed_at <= last_observed_at
*/

select
    task_id,                                            -- the task
    position,                                           -- place among the task's states, from 0: by updatedAt, then as fetched; one that it was set back to follows those before
    state.account as account,                           -- account whose API key saw it
    state.type as type,                                 -- task type, in Livepeer's words
    case when has_payload then state.phase end as phase, -- phase; null where the API had no answer but that the task is gone
    is_deleted,                                         -- whether the API no longer had the task, or called it deleted
    state.created_at as created_at,                     -- when the task was created, UTC
    state.scheduled_at as scheduled_at,                 -- when it was last scheduled, UTC; rewritten when the user has it retried
    state.updated_at as updated_at,                     -- when the status was written, UTC, by the server's clock
    case when has_payload then state.progress end as progress,                         -- share done, 0 to 1
    case when has_payload then state.retries end as retries,                           -- attempts repeated so far; null once completed, since the server erases it
    case when has_payload then state.error_message end as error_message,               -- why it failed, or why the attempt before failed
    observed_at as first_observed_at,                   -- when it was first fetched, UTC, by the archive's clock
    last_observed_at,                                   -- when it was last known to stand, UTC: fetched, or proven unchanged by a later sweep or change load; null while it stands: then it is the later of first_observed_at and proven_at in freshness
    stood_from_at,                                      -- it stood at the latest from here, UTC, by the server's clock: its updatedAt, or when the task was seen gone, back or set back to an older time
    stood_until_at,                                     -- and at least until here, UTC, by the server's clock: fetched, or proven unchanged; null while it stands: then it is the later of stood_from_at and proven_until_at in freshness
    closed_by_load_id,                                  -- load that brought the next state, or no longer found the task; null while it stands
    is_late,                                            -- whether a newer state had been fetched before: it came from a stale answer
    lane as observed_by,                                -- lane that first observed it: sweep, changes, backfill, refresh, ...; events where a webhook did
    load_id,                                            -- load that first observed it
    known_at,                                           -- when that load was complete, UTC: versions published from then on hold the row
    state.payload_sha256 as payload_sha256              -- hash of the redacted payload in the landing zone
from states
order by task_id, position
