/*
description: >-
  What is left of the error budget of the 28 days up to the newest mature day, 1 to 0, negative where it is overspent.
*/

select account, type, error_budget_left as value
from slo
where is_mature and error_budget_left is not null
qualify row_number() over (partition by account, type order by day desc) = 1
order by account, type
