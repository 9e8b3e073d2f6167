/*
description: >-
  Tasks that the archive holds, deleted ones aside, by account, type and phase.
*/

select account, type, phase, count(*) as value
from tasks
where deleted_at is null
group by account, type, phase
order by account, type, phase
