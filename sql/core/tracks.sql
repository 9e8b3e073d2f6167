/*
description: >-
  Audio and video tracks that the server found in the source media. Only completed tasks have them, as the server puts
  them into the output: a failure rate by codec is 0 for every codec.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
warnings:
  - type in ('video', 'audio')
*/

with probed as (
    select
        task_id,
        generate_subscripts(asset.videoSpec.tracks, 1) - 1 as position,
        unnest(asset.videoSpec.tracks) as track
    from newest
)

select
    task_id,                                            -- the task
    position,                                           -- place in the file, from 0
    track.type as type,                                 -- video or audio
    track.codec as codec,                               -- codec, as probed
    track.startTime as start_time_seconds,              -- where the track starts, seconds
    track.duration as duration_seconds,                 -- length, seconds
    track.bitrate as bitrate_bps,                       -- bit rate, bits per second
    track.width as width,                               -- width, pixels; video only
    track.height as height,                             -- height, pixels; video only
    track.pixelFormat as pixel_format,                  -- pixel format; video only
    track.fps as fps,                                   -- frames per second; video only
    track.channels as channels,                         -- channels; audio only
    track.sampleRate as sample_rate_hz,                 -- samples per second; audio only
    track.bitDepth as bit_depth                         -- bits per sample; audio only
from probed
order by task_id, position
