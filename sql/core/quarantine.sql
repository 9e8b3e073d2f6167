/*
description: >-
  What did not fit, in each observation that held it: values that are NULL in their column or mended, and payloads
  that are no task at all.
key: [load_id, page, row_position, number]
*/

select
    account,                                            -- account of the load
    task_id,                                            -- the task; null where the payload has no id
    path,                                               -- where in the payload, as a JSON path
    value,                                              -- the value, shortened to 200 characters
    reason,                                             -- why it does not fit
    fetched_at,                                         -- when it was fetched, UTC
    load_id,                                            -- load that brought it
    page,                                               -- page of the load
    row_position,                                       -- row on the page
    number                                              -- place among the row's values, from 0
from problems
order by load_id, page, row_position, number
