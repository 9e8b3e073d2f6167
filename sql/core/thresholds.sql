/*
description: 'The settings and limits that stand behind the numbers of this version: one row.'
key: [stuck_running_seconds]
checks:
  - stuck_running_seconds > 0
*/

select
    time_zone,                                          -- time zone of the days that numbers are grouped by
    stuck_running_seconds,                              -- a running task silent for longer is stuck, seconds
    stuck_waiting_seconds,                              -- a waiting task silent for longer is stuck, seconds
    abandoned_seconds,                                  -- a pending task never scheduled and older is an abandoned upload, seconds
    concurrency_limit,                                  -- tasks that the account may have under way at once; null: not told
    30 * 86400 as longest_plausible_media_seconds,      -- a longer media duration is taken for an error of the probe, seconds
    10000000000000 as largest_plausible_asset_bytes     -- a larger asset is taken for an error of the probe, bytes
from settings
