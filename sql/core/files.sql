/*
description: 'Files that a task put out: of an asset, and the HLS and MP4 renditions of a transcode-file task.'
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
*/

with listed as (
    select
        task_id,
        list_concat(
            coalesce(asset.files, []),
            case
                when task.output.transcodeFile.hls is not null
                    then [{'type': 'hls', 'path': task.output.transcodeFile.hls.path, 'spec': null::json}]
                else []
            end,
            list_transform(
                coalesce(task.output.transcodeFile.mp4, []),
                lambda mp4: {'type': 'mp4', 'path': mp4.path, 'spec': null::json}
            )
        ) as files
    from newest
),

put_out as (
    select task_id, generate_subscripts(files, 1) - 1 as position, unnest(files) as file from listed
)

select
    task_id,                                            -- the task
    position,                                           -- place in the list, from 0
    file.type as type,                                  -- Livepeer's file type, or hls and mp4 for transcode-file tasks
    file.path as path,                                  -- path in the output storage
    file.spec as spec                                   -- what the server says of the file, JSON
from put_out
order by task_id, position
