/*
description: >-
  Tasks that wait or run and have been silent for longer than the thresholds, by account and type.
*/

select account, type, count(*) filter (where is_stuck) as value
from fact_tasks
group by account, type
order by account, type
