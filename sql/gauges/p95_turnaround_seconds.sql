/*
description: >-
  95 % of tasks completed within so long of their creation, of the newest mature day on which enough completed, by account and type.
*/

select account, type, p95_turnaround_seconds as value
from daily_task_stats
where is_mature and p95_turnaround_seconds is not null
qualify row_number() over (partition by account, type order by day desc) = 1
order by account, type
