/*
description: Hashes of the source media that the server computed.
key: [task_id, position]
relationships:
  - {columns: [task_id], table: tasks}
*/

with listed as (
    select task_id, generate_subscripts(asset.hash, 1) - 1 as position, unnest(asset.hash) as digest from newest
)

select
    task_id,                                            -- the task
    position,                                           -- place in the list, from 0
    digest.algorithm as algorithm,                      -- such as md5 or sha256
    digest.hash as hash                                 -- the hash, hexadecimal
from listed
order by task_id, position
