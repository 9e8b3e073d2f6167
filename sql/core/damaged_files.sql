/*
description: >-
  Landed files that this version was made without: missing, or damaged and set aside. What they held of the past is
  not in the tables until they are put back; a later sweep has brought back the current state of their tasks.
key: [account, load_id, file]
warnings:
  - rows_lost is not distinct from 0
*/

select
    account,                                            -- account of the load
    load_id,                                            -- load that landed it; not in loads where the whole load is lost
    file,                                               -- the file; manifest.json where the whole load is lost
    damage,                                             -- what is wrong with it
    rows_lost                                           -- observations in it; null where the whole load is lost
from damages
order by account, load_id, file
