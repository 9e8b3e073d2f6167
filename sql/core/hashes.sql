-- Hashes of the source media that the server computed.
-- key: task_id, position
-- parent: tasks

select
    task_id,                                            -- the task
    position,                                           -- place in the list, from 0
    digest.algorithm as algorithm,                      -- such as md5 or sha256
    digest.hash as hash                                 -- the hash, hexadecimal
from newest, lateral posexplode(asset.hash) as listed(position, digest)
order by task_id, position
