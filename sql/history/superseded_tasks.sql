/*
description: >-
  States of tasks that a later load replaced: the columns of tasks, a row for each state that stood as the newest
  when a load was complete. With tasks it tells how the tasks table stood at any time: ask tasks_as_of.
like: {table: tasks, relation: superseded, in_place_of: newest}
key: [task_id, known_at]
relationships:
  - {columns: [task_id], table: tasks}
*/
