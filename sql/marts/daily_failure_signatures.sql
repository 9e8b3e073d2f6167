/*
description: >-
  Failures by the day on which the tasks failed (in the time zone of thresholds), by account, type and signature:
  the trend lines of failure_signatures. Days without failures have no row.
key: [account, day, type, signature_id]
relationships:
  - {columns: [day], table: dim_date}
  - {columns: [type], table: dim_type}
  - {columns: [account, type, signature_id], table: failure_signatures}
checks:
  - failed_tasks > 0
metrics:
  - columns: [failed_tasks]
    as_in: failure_signatures
    population: tasks that failed on the day
*/

select
    account,                                                                  -- account
    finished_day as day,                                                      -- day on which the tasks failed
    type,                                                                     -- task type
    signature_id,                                                             -- short name of the error template
    min(failure_owner) as owner,                                              -- who is to act: user, platform or unknown
    count(*) as failed_tasks
from fact_tasks
where is_failed and finished_day is not null
group by account, finished_day, type, signature_id
order by account, day, type, signature_id
