/*
description: The newest state of each task with its whole payload. Read by the core tables, not published.
materialized: view
key: [task_id]
*/

select * from payloads where is_newest
