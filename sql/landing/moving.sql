/*
description: >-
  The tasks whose rows may change though nothing of them landed, since time passes: the open ones. The tables by
  task that read freshness are made again for them.
materialized: view
key: [task_id]
*/

select task_id from tasks where phase in ('pending', 'waiting', 'running')
