/*
description: >-
  The encoding ladder that was asked for, one row a rung; a task without rows takes the default ladder. A transcode
  task has one rung.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
*/

with ladders as (
    select
        task_id,
        coalesce(
            task.params.upload.profiles,
            task.params."transcode-file".profiles,
            case when task.params.transcode.profile is not null then [task.params.transcode.profile] end,
            asset.profiles
        ) as ladder
    from newest
),

rungs as (
    select task_id, generate_subscripts(ladder, 1) - 1 as position, unnest(ladder) as rung from ladders
)

select
    task_id,                                            -- the task
    position,                                           -- place in the ladder, from 0
    rung.name as name,                                  -- the user's name of the rung
    rung.width as width,                                -- width, pixels
    rung.height as height,                              -- height, pixels
    rung.bitrate as bitrate_bps,                        -- bit rate, bits per second
    rung.fps as fps,                                    -- frames per second; 0 keeps the source's
    rung.fpsDen as fps_den,                             -- denominator of a fractional frame rate
    rung.quality as quality,                            -- constant quality, 0 to 44, higher is worse
    rung.gop ->> '$' as gop,                            -- length of a group of pictures, seconds, or intra: text, as it is sent
    rung.profile as profile,                            -- codec profile
    rung.encoder as encoder                             -- codec
from rungs
order by task_id, position
