-- Finished work by the hour in which it completed (UTC), account and type.
-- key: account, hour_at, type
-- check: completed_tasks > 0

select
    account,                                                                  -- account
    date_trunc('hour', finished_at) as hour_at,                               -- hour in which the tasks completed, UTC
    coalesce(type, 'unknown') as type,                                        -- task type
    count(*) as completed_tasks,                                              -- tasks that completed in the hour
    count(media_duration_seconds) filter (
        where media_duration_seconds <= longest_plausible_media_seconds
    ) as tasks_with_duration,                                                 -- of which with a plausible media duration; exports carry none
    count(asset_size_bytes) filter (
        where asset_size_bytes <= largest_plausible_asset_bytes
    ) as tasks_with_size,                                                     -- of which with a plausible size
    count(*) filter (
        where media_duration_seconds > longest_plausible_media_seconds
            or asset_size_bytes > largest_plausible_asset_bytes
    ) as implausible_tasks,                                                   -- of which with a duration or size beyond the thresholds, left out of the sums
    cast(coalesce(sum(case
        when abs(media_duration_seconds) <= longest_plausible_media_seconds
            then cast(round(media_duration_seconds * 1000) as bigint)
    end), 0) as double) / 60000 as media_minutes,                             -- source media processed, minutes; summed in milliseconds, which give the same in any order
    cast(coalesce(sum(asset_size_bytes) filter (
        where asset_size_bytes <= largest_plausible_asset_bytes
    ), 0) as bigint) as source_bytes                                          -- source media processed, bytes
from tasks
cross join thresholds
where phase = 'completed' and finished_at is not null
group by account, date_trunc('hour', finished_at), coalesce(type, 'unknown')
order by account, hour_at, type
