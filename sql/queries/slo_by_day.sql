/*
description: >-
  How the targets are kept, the last 28 days: share in time, rate at which the error budget burns (1 just spends
  it), and what is left.
*/

select
    day, type,
    round(100 * target_share, 2) as target_percent, target_seconds,
    eligible_tasks, good_tasks, late_tasks, failed_tasks, overdue_tasks,
    round(100 * attainment, 2) as attained_percent,
    round(burn_rate, 2) as burn_rate,
    round(100 * window_attainment, 2) as attained_percent_28_days,
    round(100 * error_budget_left) as budget_left_percent,
    is_mature
from slo
order by day desc, type
limit 28
