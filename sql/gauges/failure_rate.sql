/*
description: >-
  Failed of ended tasks, 0 to 1, of the newest mature day on which enough ended, by account and type.
*/

select account, type, failure_rate as value
from daily_task_stats
where is_mature and failure_rate is not null
qualify row_number() over (partition by account, type order by day desc) = 1
order by account, type
