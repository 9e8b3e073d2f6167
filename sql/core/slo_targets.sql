/*
description: 'The targets that the settings name: what share of a type''s tasks is to be done in what time.'
key: [type]
checks:
  - target_share > 0 and target_share < 1
*/

select
    type,                                               -- task type
    share as target_share,                              -- share of its tasks that are to complete in time
    seconds as target_seconds                           -- turnaround that is in time, seconds
from slo_settings
order by type
