-- Failures by the day on which the tasks failed (in the time zone of thresholds), by account, type and signature: the
-- trend lines of failure_signatures. Days without failures have no row.
-- key: account, day, type, signature_id
-- refers: day to dim_date
-- refers: type to dim_type
-- refers: account, type, signature_id to failure_signatures
-- check: failed_tasks > 0
-- metric: failed_tasks, as in failure_signatures
--   population: tasks that failed on the day

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
