-- The settings that stand behind the numbers of this version.
-- key: stuck_running_seconds
-- check: stuck_running_seconds > 0

select
    stuck_running_seconds,                              -- a running task silent for longer is stuck, seconds
    stuck_waiting_seconds,                              -- a waiting task silent for longer is stuck, seconds
    abandoned_seconds                                   -- a pending task never scheduled and older is an abandoned upload, seconds
from settings
