-- Failures by the day on which the tasks failed (in the time zone of thresholds), by account, type and signature: the
-- trend lines of failure_signatures. Days without failures have no row.
-- key: account, day, type, signature_id
-- check: failed_tasks > 0
-- metric: failed_tasks, as in failure_signatures
--   population: tasks that failed on the day

select
    account,                                                                  -- account
    finished_day as day,                                                      -- day on which the tasks failed; refers to dim_date
    type,                                                                     -- task type; refers to dim_type
    signature_id,                                                             -- short name of the error template: refers to failure_signatures
    min(failure_owner) as owner,                                              -- who is to act: user, platform or unknown
    count(*) as failed_tasks
from fact_tasks
where is_failed and finished_day is not null
group by account, finished_day, type, signature_id
order by account, day, type, signature_id
