/*
description: The last loads with their proofs.
*/

select load_id, account, lane, started_at, requests, tasks_seen, tasks_appeared, tasks_changed, server_count_after, verdict, proven_until_at, reasons
from loads
order by load_id desc
limit 20
