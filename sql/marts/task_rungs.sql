/*
description: >-
  Each rung of the encoding ladder that a task asked for, and how the whole task ended. A rung is named by its lines
  (the shorter side, so that portrait video has the same), frame rate where one was asked for, and codec unless it
  is H.264: 1080p, 720p30, 2160p60 HEVC; source has no size of its own, default is of tasks that asked for no
  ladder.
key: [task_id, rung]
relationships:
  - {columns: [task_id], table: tasks}
  - {columns: [type], table: dim_type}
*/

with asked as (
    select
        task_id,
        case
            when width > 0 and height > 0 then least(width, height)
            when height > 0 then height
        end as height,
        case when fps > 0 then fps / case when fps_den > 0 then fps_den else 1 end end as frames_per_second,
        coalesce(nullif(upper(encoder), 'H264'), 'H.264') as codec
    from profiles
),

rungs as (
    select distinct
        task_id,
        case
            when height is null then 'source'
            when frames_per_second is null then cast(height as string) || 'p'
            else cast(height as string) || 'p' || cast(cast(round(frames_per_second) as bigint) as string)
        end || case when codec = 'H.264' then '' else ' ' || codec end as rung,
        height,
        case when height is not null then cast(round(frames_per_second) as bigint) end as frames_per_second,
        codec
    from asked
    union all
    select task_id, 'default', null, null, null
    from fact_tasks
    where type in ('upload', 'transcode-file') and task_id not in (select task_id from profiles)
)

select
    f.task_id,                                                                -- the task
    r.rung,                                                                   -- lines, frame rate and codec; source or default where there are none
    f.account,                                                                -- account whose API key saw it
    f.type,                                                                   -- task type; unknown where the payload tells none
    r.height,                                                                 -- lines of the rung: the shorter side, pixels
    r.frames_per_second,                                                      -- frame rate asked for, rounded; null: the source's
    r.codec,                                                                  -- codec asked for; null where no ladder was
    f.is_ended,                                                               -- whether the task completed or failed
    f.is_completed,                                                           -- whether it completed
    f.is_failed,                                                              -- whether it stands as failed
    f.failure_owner,                                                          -- who is to act on its failure: user, platform or unknown
    f.server_time_seconds,                                                    -- scheduled to finished, of all rungs together; null on old tasks without scheduled_at
    f.real_time_factor                                                        -- that per second of media
from fact_tasks as f
inner join rungs as r on f.task_id = r.task_id
order by task_id, rung
