-- Finished work by the hour in which it completed (UTC), account and type.
-- key: account, hour_at, type
-- check: completed_tasks > 0

select
    account,                                                                  -- account
    date_trunc('hour', finished_at) as hour_at,                               -- hour in which the tasks completed, UTC
    coalesce(type, 'unknown') as type,                                        -- task type
    count(*) as completed_tasks,                                              -- tasks that completed in the hour
    count(media_duration_seconds) as completed_tasks_with_media,              -- of which with a known media duration; exports carry none
    coalesce(sum(media_duration_seconds), 0) / 60.0 as media_minutes,         -- source media processed, minutes
    cast(coalesce(sum(asset_size_bytes), 0) as bigint) as source_bytes        -- source media processed, bytes
from tasks
where phase = 'completed' and finished_at is not null
group by account, date_trunc('hour', finished_at), coalesce(type, 'unknown')
order by account, hour_at, type
