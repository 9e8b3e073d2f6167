/*
description: >-
  Where an observation has a phase or a type that is unknown to us, or lacks what every task has. Read by drift, not
  published.
key: [account, load_id, file, page, position, path]
*/

with met as (
    select
        *,
        unnest([
            case
                when task.status.phase not in ('pending', 'waiting', 'running', 'completed', 'failed', 'cancelled')
                    then {
                        'kind': 'unknown phase', 'path': '$.status.phase = ' || task.status.phase,
                        'example': task.status.phase
                    }
            end,
            case
                when task.type not in (
                    'upload', 'import', 'clip', 'transcode', 'transcode-file', 'export', 'export-data'
                )
                    then {'kind': 'unknown type', 'path': '$.type = ' || task.type, 'example': task.type}
            end,
            case when task.type is null then {'kind': 'missing path', 'path': '$.type', 'example': null} end,
            case when task.createdAt is null then {'kind': 'missing path', 'path': '$.createdAt', 'example': null} end,
            case
                when task.status.phase is null
                    then {'kind': 'missing path', 'path': '$.status.phase', 'example': null}
            end,
            case
                when task.status.updatedAt is null
                    then {'kind': 'missing path', 'path': '$.status.updatedAt', 'example': null}
            end
        ]) as misfit
    from observations
    where is_new and task.id is not null
)

select
    account,
    load_id,
    file,
    page,
    position,
    misfit.kind as kind,
    misfit.path as path,
    fetched_at,
    task_id,
    misfit.example as example
from met
where misfit is not null
