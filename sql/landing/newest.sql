-- The newest state of each task with its whole payload. Read by the core tables, not published.
-- as: view

select * from payloads where is_newest
