/*
description: >-
  When the last load of an account was complete, Unix time.
*/

select account, epoch(last_load_at) as value
from freshness
