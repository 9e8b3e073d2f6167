/*
description: >-
  The fact table: one row per task with what it is counted by and measured with, for every type and phase. All metrics
  of outcome, duration and throughput count or measure its rows. Days are those of the time zone in thresholds.
key: [task_id]
relationships:
  - {columns: [task_id], table: tasks}
  - {columns: [created_day], table: dim_date, there: [day]}
  - {columns: [finished_day], table: dim_date, there: [day]}
  - {columns: [type], table: dim_type}
  - {columns: [account, type, signature_id], table: failure_signatures}
checks:
  - is_ended = (is_completed or is_failed)
  - is_open or not (is_abandoned or is_stuck or is_moving)
  - not (is_abandoned and is_moving)
*/

with judged as (
    select
        t.*,
        coalesce(t.phase = 'completed', false) as is_completed,
        coalesce(t.phase = 'failed', false) as is_failed,
        coalesce(t.phase in ('pending', 'waiting', 'running'), false) as is_open,
        t.phase = 'completed' or t.phase = 'failed' as is_finished,
        unix_millis(a.known_until_at) - unix_millis(t.created_at) as age_millis,
        unix_millis(a.known_until_at) - unix_millis(t.updated_at) as silent_millis,
        case
            when t.phase not in ('waiting', 'running') then t.finished_at
            else least(
                t.updated_at + interval 1 second * case
                    when t.phase = 'waiting' then x.stuck_waiting_seconds else x.stuck_running_seconds
                end,
                date_trunc('hour', a.known_until_at)
            )
        end as under_way_until_at
    from tasks as t
    inner join freshness as a on t.account = a.account
    cross join thresholds as x
)

select
    t.task_id,                                                                -- the task
    t.account,                                                                -- account whose API key saw it
    coalesce(t.type, 'unknown') as type,                                      -- task type; unknown where the payload tells none
    t.phase,                                                                  -- phase it was last seen in; failed is not final
    t.user_id,                                                                -- user it belongs to
    t.project_id,                                                             -- project it belongs to
    t.creator_id,                                                             -- the developer's id of the creator
    t.created_at,                                                             -- when it was created, UTC
    t.scheduled_at,                                                           -- when it was last scheduled, UTC
    t.finished_at,                                                            -- when it completed, failed or was cancelled, UTC
    local_date(t.created_at, x.time_zone) as created_day,                     -- day of its creation
    cast(date_trunc('week', local_date(t.created_at, x.time_zone)) as date) as created_week, -- Monday of the week of its creation
    date_trunc('hour', t.created_at) as created_hour_at,                      -- hour of its creation, UTC
    local_date(t.finished_at, x.time_zone) as finished_day,                   -- day of its end
    date_trunc('hour', t.finished_at) as finished_hour_at,                    -- hour of its end, UTC
    case
        when t.scheduled_at < t.under_way_until_at then t.under_way_until_at
    end as under_way_until_at,                                                -- until when it was under way since it was scheduled, UTC: its end; of an open one as long as it is not stuck, at most the last full hour; null where it was not
    date_trunc('hour', t.scheduled_at) as scheduled_hour_at,                  -- hour of its scheduling, UTC
    case
        when t.scheduled_at < t.under_way_until_at then date_trunc('hour', t.under_way_until_at)
    end as under_way_until_hour_at,                                           -- hour of that, UTC
    t.is_completed,                                                           -- whether it completed
    t.is_failed,                                                              -- whether it stands as failed
    coalesce(t.is_finished, false) as is_ended,                               -- whether it completed or failed: what rates are made of
    t.is_open,                                                                -- whether it is pending, waiting or running
    coalesce(
        t.phase = 'pending' and t.scheduled_at is null and t.age_millis > x.abandoned_seconds * 1000, false
    ) as is_abandoned,                                                        -- whether it is an upload that never came: pending, never scheduled, older than the threshold
    t.deleted_at is null and coalesce(
        t.phase = 'running' and t.silent_millis > x.stuck_running_seconds * 1000
        or t.phase = 'waiting' and t.silent_millis > x.stuck_waiting_seconds * 1000,
        false
    ) as is_stuck,                                                            -- whether it is open and silent for longer than the threshold of its phase, by what the archive last saw
    t.is_open and t.deleted_at is null and coalesce(
        case when t.phase = 'pending' and t.scheduled_at is null then t.age_millis else t.silent_millis end
        <= x.abandoned_seconds * 1000,
        false
    ) as is_moving,                                                           -- whether it is open and may still end: neither abandoned, nor deleted, nor silent for longer than that threshold
    t.deleted_at is not null as is_deleted,                                   -- whether the API does not have it any more
    case when t.is_failed then e.signature_id end as signature_id,            -- why it failed
    case when t.is_failed then e.owner end as failure_owner,                  -- who is to act on its failure: user, platform or unknown
    case
        when t.is_finished then (unix_millis(t.scheduled_at) - unix_millis(t.created_at)) / 1000
    end as ingest_wait_seconds,                                               -- created to scheduled: of a direct upload the user's upload time; up to the user's last retry where there was one
    case
        when t.is_finished then (unix_millis(t.finished_at) - unix_millis(t.scheduled_at)) / 1000
    end as server_time_seconds,                                               -- scheduled to finished: queue and backoff included, what went before the user's last retry not; null on old tasks without scheduled_at
    case
        when t.is_finished then (unix_millis(t.finished_at) - unix_millis(t.created_at)) / 1000
    end as turnaround_seconds,                                                -- created to finished
    case
        when abs(t.media_duration_seconds) <= x.longest_plausible_media_seconds then t.media_duration_seconds
    end as media_duration_seconds,                                            -- length of the source media, seconds, if it is plausible; exports and failed tasks have none
    case
        when t.asset_size_bytes <= x.largest_plausible_asset_bytes then t.asset_size_bytes
    end as asset_size_bytes,                                                  -- size of the source media, bytes, if it is plausible
    coalesce(
        abs(t.media_duration_seconds) > x.longest_plausible_media_seconds
        or t.asset_size_bytes > x.largest_plausible_asset_bytes,
        false
    ) as is_implausible,                                                      -- whether its duration or size is beyond the thresholds, and left out
    case
        when t.is_finished and t.media_duration_seconds > 0
            and t.media_duration_seconds <= x.longest_plausible_media_seconds
            then (unix_millis(t.finished_at) - unix_millis(t.scheduled_at)) / 1000 / t.media_duration_seconds
    end as real_time_factor                                                   -- server time per second of media: below 1 is faster than real time
from judged as t
cross join thresholds as x
left join error_texts as e on coalesce(t.error_message, '') = e.error_message
order by created_at, task_id
