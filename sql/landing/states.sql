/*
description: >-
  Every state of each task that was observed, one row each. Read by newest, superseded and task_history, not
  published. The latest updatedAt counts as newest, then the latest fetched: a stale answer never replaces a newer
  state; what it tells for the first time takes its place before (is_late). Only an answer that is sure sets a task
  back to an older updatedAt, as after a server's clock was set back: that of a GET by id (the lane refresh), or one
  that repeats the answer just before it, of another load; an event answers nothing. An epoch begins with each such answer, and none before it
  counts (the catalog of the landing zone says the same). Whether a task is deleted, the latest fetched alone tells.
  How far later loads prove a state that still stands is not told here, since each would change every row: it is
  told once a load has closed the state, which brought the next one or no longer met the task.
key: [task_id, position]
*/

-- A worked example: one task, five answers. In brackets the updatedAt of the state that an answer shows.
--
--     load            answer               what becomes of it
--     10:30 changes   running [10:00]      position 1, stood from 10:00, closed by the load of 11:30
--     11:30 changes   completed [11:00]    position 2, stood from 11:00: the newest by updatedAt
--     12:30 changes   waiting [9:30]       stale, replaces nothing: position 0, is_late, placed by its updatedAt
--     13:30 sweep     completed [11:00]    no new state; proves that position 2 still stands
--     14:30 sweep     not listed, 404      position 3, is_deleted; closes position 2, last seen by the sweep of 13:30
--
-- `told` has the answers, `answered` to `compared` follow what counts as newest after each, `turns` keeps those that
-- changed it, `standing` gives them their times, `late` adds the stale ones, `placed` numbers all, `bounded` closes them.

with told as (
    select
        o.task_id,
        o.load_id,
        o.page,
        o.position,
        o.lane,
        o.fetched_at,
        -- An event tells how things stood when it was made, not when it came.
        least(
            o.fetched_at - to_microseconds(cast(coalesce(l.clock_skew_seconds, 0) * 1000000 as bigint)),
            case when o.lane = 'events' then make_timestamptz(o.task.status.updatedAt * 1000) end
        ) as fetched_by_server_at,
        l.finished_at as known_at,
        o.is_deleted,
        case
            when o.task.id is not null
                then {
                    'account': o.account,
                    'load_id': o.load_id,
                    'page': o.page,
                    'position': o.position,
                    'payload_sha256': o.payload_sha256,
                    'updated_at_ms': coalesce(o.updated_at_ms, -1),
                    'type': o.task.type,
                    'created_at': make_timestamptz(o.task.createdAt * 1000),
                    'scheduled_at': make_timestamptz(o.task.scheduledAt * 1000),
                    'updated_at': make_timestamptz(o.task.status.updatedAt * 1000),
                    'phase': o.task.status.phase,
                    'progress': o.task.status.progress,
                    'retries': o.task.status.retries,
                    'error_message': o.task.status.errorMessage
                }
        end as state
    from observations as o
    inner join loads as l on o.load_id = l.load_id
    where o.task_id is not null
),

-- Most tasks are observed once: they take the short way.
repeated as (
    select task_id from told group by task_id having count(*) > 1
),

answered as (
    select
        told.*,
        state.payload_sha256 = lag(state.payload_sha256) over in_order
        and load_id != lag(load_id) over in_order
        and 'events' not in (lane, lag(lane) over in_order) as is_repetition,
        lag(load_id) over in_order as load_before_id
    from told
    semi join repeated on told.task_id = repeated.task_id
    window in_order as (partition by task_id order by load_id, page, position)
),

counted as (
    select
        *,
        min(fetched_at) over in_order as first_seen_at,
        count(*) filter (state is not null and (lane = 'refresh' or is_repetition)) over in_order as epoch
    from answered
    window in_order as (partition by task_id order by load_id, page, position)
),

followed as (
    select *, max(state.updated_at_ms) over in_order as newest_ms
    from counted
    window in_order as (partition by task_id, epoch order by load_id, page, position)
),

known as (
    select
        *,
        last_value(case when state.updated_at_ms = newest_ms then state end ignore nulls) over in_order as newest,
        coalesce(newest_ms < lag(newest_ms) over in_order, false) as is_set_back
    from followed
    window in_order as (partition by task_id order by load_id, page, position)
),

compared as (
    select
        *,
        coalesce(lag(is_deleted) over in_order, false) as was_deleted,
        newest.payload_sha256 is distinct from lag(newest.payload_sha256) over in_order
        or is_deleted is distinct from lag(is_deleted) over in_order as is_turn
    from known
    where newest is not null
    window in_order as (partition by task_id order by load_id, page, position)
),

turns as (
    select
        *,
        count(*) filter (is_set_back) over in_order as set_back_times,
        case
            when is_deleted or was_deleted or is_set_back then fetched_by_server_at
            else coalesce(newest.updated_at, fetched_by_server_at)
        end as met_from_at,
        case when is_set_back and is_repetition then load_before_id else load_id end as told_by_load_id
    from compared
    where is_turn
    window in_order as (partition by task_id order by load_id, page, position)
),

-- A task that was set back has two times of the server for one moment: its states stand one after the other all the same.
standing as (
    select
        task_id, load_id, page, position, lane, fetched_at, fetched_by_server_at, known_at, first_seen_at, is_deleted,
        newest as state,
        state is not null as has_payload,
        false as is_late,
        max(newest.updated_at_ms) over in_order as placed_ms,
        case when set_back_times > 0 then max(met_from_at) over in_order else met_from_at end as stood_from_at,
        case
            when lead(set_back_times) over in_order > 0
                then greatest(lead(met_from_at) over in_order, max(met_from_at) over in_order)
            when 'events' in (lane, lead(lane) over in_order) then lead(met_from_at) over in_order
        end as next_from_at,
        lead(load_id) over in_order as next_load_id,
        lead(told_by_load_id) over in_order as doubted_by_load_id,
        last_value(case when not is_deleted then {'load_id': load_id, 'at': fetched_at} end ignore nulls) over in_order as there,
        last_value(case when is_deleted and not was_deleted then {'load_id': load_id, 'at': fetched_at} end ignore nulls) over in_order as gone
    from turns
    window in_order as (partition by task_id order by load_id, page, position)
),

late as (
    select
        task_id, load_id, page, position, lane, fetched_at, fetched_by_server_at, known_at, first_seen_at,
        false as is_deleted,
        state,
        true as has_payload,
        true as is_late,
        state.updated_at_ms as placed_ms,
        coalesce(state.updated_at, fetched_by_server_at) as stood_from_at,
        load_id as next_load_id,
        {'load_id': load_id, 'at': fetched_at} as there,
        null as gone
    from known
    where state is not null
    qualify
        row_number() over (partition by task_id, state.payload_sha256 order by load_id, page, position) = 1
        and state.updated_at_ms < newest_ms and not is_deleted
),

placed as (
    select
        *,
        row_number() over (partition by task_id order by placed_ms, load_id, page, position) - 1 as place
    from (from standing union all by name from late)
    union all by name
    select
        told.*,
        true as has_payload,
        fetched_at as first_seen_at,
        false as is_late,
        case
            when is_deleted then fetched_by_server_at
            else coalesce(state.updated_at, fetched_by_server_at)
        end as stood_from_at,
        null as next_load_id,
        case when not is_deleted then {'load_id': load_id, 'at': fetched_at} end as there,
        case when is_deleted then {'load_id': load_id, 'at': fetched_at} end as gone,
        0 as place
    from told
    anti join repeated on told.task_id = repeated.task_id
    where state is not null
),

-- Sweeps that did not meet a task, or could not have it, prove nothing of the state that it was in.
unmet as (
    select task_id, list(load_id) as load_ids
    from (
        select load_id, unnest(list_concat(vanished_task_ids, list_transform(missing_tasks, lambda m: m.task_id))) as task_id
        from loads
    )
    group by task_id
),

bounded as (
    select
        placed.*,
        least(
            case when is_deleted then gone.load_id else next_load_id end,
            list_min(list_filter(unmet.load_ids, lambda unmet_id: unmet_id >= placed.there.load_id))
        ) as closed_by_load_id
    from placed
    left join unmet on placed.task_id = unmet.task_id
)

select
    b.task_id,
    b.place as position,
    b.state,
    b.has_payload,
    b.is_deleted,
    b.is_late,
    b.next_load_id is null as is_newest,
    b.lane,
    b.load_id,
    b.fetched_at as observed_at,
    b.closed_by_load_id,
    case
        when b.is_deleted or b.is_late then b.fetched_at
        when b.closed_by_load_id is not null then greatest(b.fetched_at, p.proven_at)
    end as last_observed_at,
    b.stood_from_at,
    case
        when b.is_deleted then b.stood_from_at
        when b.is_late then b.state.updated_at
        when b.closed_by_load_id is not null
            then greatest(
                b.stood_from_at,
                least(
                    greatest(b.state.updated_at, b.fetched_by_server_at, p.proven_until_at),
                    case when b.closed_by_load_id = b.next_load_id then b.next_from_at end
                )
            )
    end as stood_until_at,
    b.known_at,
    n.finished_at as superseded_at,
    b.first_seen_at,
    case
        when b.there is null then b.first_seen_at
        when b.closed_by_load_id is not null then greatest(b.there.at, p.swept_at)
    end as last_seen_at,
    case when b.is_deleted then b.gone.at end as deleted_at,
    case when b.is_deleted and b.there is not null then greatest(b.there.at, p.swept_at) end as deleted_after_at
from bounded as b
-- The load that brought the next state first, and was not accepted yet, proves nothing about this one.
left join proofs as p
    on
        b.state.account = p.account
        and case when b.closed_by_load_id = b.next_load_id then b.doubted_by_load_id else b.closed_by_load_id end
        = p.before_load_id
left join loads as n on b.next_load_id = n.load_id
