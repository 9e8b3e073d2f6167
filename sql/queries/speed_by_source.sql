/*
description: >-
  How fast sources are done, by codec, height and length: completed tasks only, since failed ones have no probe.
*/

select
    type, codec, height_class, duration_bucket, completed_tasks,
    round(media_minutes) as media_minutes,
    round(p50_real_time_factor, 3) as p50_real_time_factor,
    round(p95_real_time_factor, 3) as p95_real_time_factor,
    round(p95_server_time_seconds, 1) as p95_server_time_seconds
from sources
order by type, class_height desc nulls last, codec, duration_from_seconds
