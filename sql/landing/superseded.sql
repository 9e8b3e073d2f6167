-- The states that stood as a task's newest when a load was complete and that a later load replaced, with their whole
-- payload. Read by superseded_tasks, not published.
-- key: task_id, known_at
-- as: view

select * from payloads where superseded_at > known_at
