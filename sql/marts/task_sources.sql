/*
description: >-
  What came in with each completed task: codec, height and length of its source. A source is its first video track,
  or its first track where it has no video. Failed tasks have no probe, and exports and transcode-file no tracks; of
  a transcode task the media made was probed, not its source: none of these has a row.
key: [task_id]
relationships:
  - {columns: [task_id], table: tasks}
  - {columns: [type], table: dim_type}
*/

with firsts as (
    select task_id, coalesce(min(position) filter (where type = 'video'), min(position)) as position
    from tracks
    group by task_id
),

-- Lines of a frame of 16:9 that the picture fits in: 1920 x 800 and 1080 x 1920 are both 1080.
probed as (
    select
        t.task_id,
        t.type as track_type,
        coalesce(t.codec, 'unknown') as codec,
        greatest(least(t.width, t.height), greatest(t.width, t.height) * 9 / 16) as lines
    from tracks as t
    inner join firsts as f on t.task_id = f.task_id and t.position = f.position
),

classed as (
    select
        task_id,
        track_type,
        codec,
        case
            when track_type <> 'video' or not lines > 0 then null
            when lines < 300 then 240
            when lines < 420 then 360
            when lines < 600 then 480
            when lines < 900 then 720
            when lines < 1260 then 1080
            when lines < 1800 then 1440
            when lines < 3240 then 2160
            when lines >= 3240 then 4320
        end as class_height
    from probed
)

select
    f.task_id,                                                                -- the task
    f.account,                                                                -- account whose API key saw it
    f.type,                                                                   -- task type; unknown where the payload tells none
    c.codec,                                                                  -- codec of the source, as probed
    case
        when c.class_height is not null then cast(c.class_height as string) || 'p'
        when c.track_type = 'audio' then 'audio'
        else 'unknown'
    end as height_class,                                                      -- nearest of the usual heights, 240p to 4320p; audio where there is no video
    c.class_height,                                                           -- height_class in pixels
    case
        when f.media_duration_seconds < 60 then 0
        when f.media_duration_seconds < 300 then 60
        when f.media_duration_seconds < 900 then 300
        when f.media_duration_seconds < 3600 then 900
        when f.media_duration_seconds < 10800 then 3600
        when f.media_duration_seconds >= 10800 then 10800
    end as duration_from_seconds,                                             -- where the duration_bucket of sources begins that it is in, seconds
    f.media_duration_seconds,                                                 -- length of the source, seconds, if it is plausible
    f.server_time_seconds,                                                    -- scheduled to finished, seconds; null on old tasks without scheduled_at
    f.real_time_factor                                                        -- that per second of media
from fact_tasks as f
inner join classed as c on f.task_id = c.task_id
where f.is_completed and f.type <> 'transcode'
order by task_id
