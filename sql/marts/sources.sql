-- What comes in, and how fast it is done: completed tasks by account, type, and codec, height and length of their source.
-- A source is its first video track, or its first track where it has no video. Failed tasks have no probe: sources that
-- fail always do not show here, and those that fail often show too small. Of a transcode task the media made
-- was probed, not its source.
-- key: account, type, codec, height_class, duration_bucket
-- refers: type to dim_type
-- check: completed_tasks > 0
-- metric: completed_tasks, as in hourly_throughput
--   population: completed tasks whose source was probed
--   leaves out: tasks without tracks of their source: failed ones, exports, transcode-file, transcode
--   unit: tasks
-- metric: media_minutes, as in hourly_throughput
--   population: completed tasks whose source was probed
--   unit: minutes
-- metric: p50_server_time_seconds, p95_server_time_seconds
--   formula: exact quantile of scheduled to finished
--   unit: seconds
--   population: completed tasks whose source was probed
--   leaves out: tasks without a time of scheduling, as old ones are
--   counted: server_time_seconds is not null
--   n: tasks_with_server_time, at least 5, 20
--   mind: survivors only: a source that made a task fail is not in it
--   better: lower
-- metric: p50_real_time_factor, p95_real_time_factor
--   formula: exact quantile of server time / media duration
--   unit: seconds a second of media, below 1 is faster than real time
--   population: completed tasks whose source was probed
--   leaves out: tasks without a plausible media duration or a time of scheduling
--   counted: real_time_factor is not null
--   n: tasks_with_real_time_factor, at least 5, 20
--   mind: survivors only: a source that made a task fail is not in it; short media weigh the fixed part of the work
--   better: lower

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
        greatest(least(t.width, t.height), greatest(t.width, t.height) * 9 / 16.0) as lines
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
),

completed as (
    select
        f.*,
        c.codec,
        c.class_height,
        case
            when c.class_height is not null then cast(c.class_height as string) || 'p'
            when c.track_type = 'audio' then 'audio'
            else 'unknown'
        end as height_class,
        case
            when f.media_duration_seconds < 60 then 0
            when f.media_duration_seconds < 300 then 60
            when f.media_duration_seconds < 900 then 300
            when f.media_duration_seconds < 3600 then 900
            when f.media_duration_seconds < 10800 then 3600
            when f.media_duration_seconds >= 10800 then 10800
        end as duration_from_seconds
    from fact_tasks as f
    inner join classed as c on f.task_id = c.task_id
    where f.is_completed and f.type <> 'transcode'
)

select
    account,                                                                  -- account
    type,                                                                     -- task type
    codec,                                                                    -- codec of the source, as probed
    height_class,                                                             -- nearest of the usual heights, 240p to 4320p; audio where there is no video
    case duration_from_seconds
        when 0 then 'under 1 min'
        when 60 then '1 to 5 min'
        when 300 then '5 to 15 min'
        when 900 then '15 to 60 min'
        when 3600 then '1 to 3 h'
        when 10800 then '3 h and more'
        else 'unknown'
    end as duration_bucket,                                                   -- length of the source
    min(class_height) as class_height,                                        -- height_class in pixels, to sort by
    min(duration_from_seconds) as duration_from_seconds,                      -- where duration_bucket begins, seconds, to sort by
    count(*) as completed_tasks,
    count(media_duration_seconds) as tasks_with_duration,                     -- of which with a plausible media duration
    cast(
        coalesce(sum(cast(round(media_duration_seconds * 1000) as bigint)), 0) as double
    ) / 60000 as media_minutes,
    count(server_time_seconds) as tasks_with_server_time,                     -- completed tasks with a time of scheduling
    count(real_time_factor) as tasks_with_real_time_factor,                   -- of which with a plausible media duration above 0
    percentile_cont(0.5) within group (order by server_time_seconds) as p50_server_time_seconds,
    percentile_cont(0.95) within group (order by server_time_seconds) as p95_server_time_seconds,
    percentile_cont(0.5) within group (order by real_time_factor) as p50_real_time_factor,
    percentile_cont(0.95) within group (order by real_time_factor) as p95_real_time_factor
from completed
group by account, type, codec, height_class, duration_from_seconds
order by account, type, codec, class_height nulls last, height_class, duration_from_seconds nulls last
