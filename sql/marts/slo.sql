/*
description: >-
  How the targets of slo_targets are kept, by account, type and day of creation (in the time zone of thresholds). A
  task is eligible once it is decided: it ended, or it is open and older than the target, which it has missed. Its
  time runs from its creation, of a direct upload with the user's upload time. The window is the 28 days up to the
  day. Error budget and burn rate are those of Google's SRE Workbook, chapters 2 and 5.
key: [account, type, day]
relationships:
  - {columns: [day], table: dim_date}
  - {columns: [type], table: dim_type}
checks:
  - eligible_tasks = good_tasks + late_tasks + failed_tasks + overdue_tasks
  - eligible_tasks <= window_eligible_tasks
metrics:
  - columns: [attainment]
    formula: tasks that completed within the target's time / eligible tasks
    unit: share, 0 to 1
    population: tasks created on the day that ended, or are open and older than the target
    excludes: >-
      failures that are the user's fault, uploads whose file has not come (abandoned ones too), cancelled tasks,
      and open ones that the API does not have any more
    filter: is_eligible
    n: eligible_tasks
    minimum_n: 20
    caveat: moves until the day is mature; failures of unknown owner count as missed
    better: higher
  - columns: [window_attainment]
    formula: tasks that completed within the target's time / eligible tasks, of the 28 days up to the day
    unit: share, 0 to 1
    population: tasks created in the 28 days that ended, or are open and older than the target
    excludes: what attainment leaves out
    filter: is_eligible
    n: window_eligible_tasks
    minimum_n: 20
    caveat: the first 27 days of an account have a shorter window
    better: higher
  - columns: [error_budget_left]
    formula: 1 - share of eligible tasks in the 28 days that missed the target / share that may miss it
    unit: share of the budget; below 0 it is overspent
    population: tasks created in the 28 days that ended, or are open and older than the target
    excludes: what attainment leaves out
    filter: is_eligible
    n: window_eligible_tasks
    minimum_n: 20
    caveat: the first 27 days of an account have a shorter window
    better: higher
  - columns: [burn_rate]
    formula: share of the day's eligible tasks that missed the target / share that may miss it
    unit: times the rate that just spends the budget
    population: tasks created on the day that ended, or are open and older than the target
    excludes: what attainment leaves out
    filter: is_eligible
    n: eligible_tasks
    minimum_n: 20
    non_additive_dimension: type
    caveat: moves until the day is mature
    better: lower
*/

with judged as (
    select
        f.*,
        s.target_share,
        s.target_seconds,
        f.is_completed and coalesce(f.turnaround_seconds <= s.target_seconds, false) as is_good,
        f.is_completed
        or f.is_failed and f.failure_owner <> 'user'
        or f.is_open and not f.is_deleted and not (f.phase = 'pending' and f.scheduled_at is null)
        and (unix_millis(a.known_until_at) - unix_millis(f.created_at)) / 1000 > s.target_seconds as is_eligible
    from fact_tasks as f
    inner join slo_targets as s on f.type = s.type
    inner join freshness as a on f.account = a.account
    where f.created_day is not null
)

select
    account,                                                                  -- account
    type,                                                                     -- task type
    created_day as day,                                                       -- day of creation
    target_share,                                                             -- share of its tasks that are to complete in time
    target_seconds,                                                           -- turnaround that is in time, seconds
    count(*) filter (where is_eligible) as eligible_tasks,                    -- tasks created on the day that are decided
    count(*) filter (where is_eligible and is_good) as good_tasks,            -- of which completed in time
    count(*) filter (where is_eligible and is_completed and not is_good) as late_tasks, -- of which completed, too late
    count(*) filter (where is_eligible and is_failed) as failed_tasks,        -- of which failed by no fault of the user
    count(*) filter (where is_eligible and not is_completed and not is_failed) as overdue_tasks, -- of which open and older than the target
    count(*) filter (where not is_eligible) as other_tasks,                   -- tasks created on the day that are left out, or not decided yet
    count(*) filter (where is_eligible and is_good)
    / nullif(count(*) filter (where is_eligible), 0) as attainment,
    cast(sum(count(*) filter (where is_eligible)) over last_28_days as bigint) as window_eligible_tasks, -- eligible tasks of the 28 days
    sum(count(*) filter (where is_eligible and is_good)) over last_28_days
    / nullif(sum(count(*) filter (where is_eligible)) over last_28_days, 0) as window_attainment,
    1 - sum(count(*) filter (where is_eligible and not is_good)) over last_28_days
    / nullif(sum(count(*) filter (where is_eligible)) over last_28_days, 0) / (1 - target_share) as error_budget_left,
    count(*) filter (where is_eligible and not is_good)
    / nullif(count(*) filter (where is_eligible), 0) / (1 - max(target_share)) as burn_rate,
    count(*) filter (where is_moving) = 0 as is_mature                        -- whether none of its tasks may still end
from judged
group by account, type, created_day, target_share, target_seconds
window last_28_days as (
    partition by account, type order by created_day range between interval 27 day preceding and current row
)
order by account, type, day
