-- How long each finished task took, one row a task that completed or failed. Failed tasks have no media.
-- key: task_id
-- parent: tasks

select
    task_id,                                                                  -- the task
    account,                                                                  -- account whose API key saw it
    type,                                                                     -- task type
    phase,                                                                    -- completed or failed; failed is not final
    created_at,                                                               -- when it was created, UTC
    scheduled_at,                                                             -- when it was last scheduled, UTC
    finished_at,                                                              -- when it completed or failed, UTC
    (unix_millis(scheduled_at) - unix_millis(created_at)) / 1000.0 as ingest_wait_seconds, -- created to scheduled: of a direct upload the user's upload time; a retry restarts it
    (unix_millis(finished_at) - unix_millis(scheduled_at)) / 1000.0 as server_time_seconds, -- scheduled to finished: queue and backoff included; null on old tasks without scheduled_at
    (unix_millis(finished_at) - unix_millis(created_at)) / 1000.0 as turnaround_seconds, -- created to finished
    media_duration_seconds,                                                   -- length of the source media, seconds
    asset_size_bytes,                                                         -- size of the source media, bytes
    case
        when media_duration_seconds > 0 and media_duration_seconds <= longest_plausible_media_seconds
            then (unix_millis(finished_at) - unix_millis(scheduled_at)) / 1000.0 / media_duration_seconds
    end as real_time_factor                                                   -- server time per second of media: below 1 is faster than real time
from tasks
cross join thresholds
where phase in ('completed', 'failed')
order by finished_at, task_id
