/*
description: >-
  Whether the last load of an account was proven whole, 1 or 0.
*/

select account, case when last_verdict = 'whole' then 1 else 0 end as value
from freshness
