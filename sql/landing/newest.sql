-- The newest state of each task with its whole payload. Read by the core tables, not published.
-- key: task_id
-- as: view

select * from payloads where is_newest
