/*
description: >-
  The states that stood as a task's newest when a load was complete and that a later load replaced, with their whole
  payload. Read by superseded_tasks, not published.
materialized: view
key: [task_id, known_at]
*/

select * from payloads where superseded_at > known_at
