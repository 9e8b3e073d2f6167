-- Every state of each task that was observed, one row each. Read by newest, superseded and task_history, not published.
-- The latest updatedAt counts as newest, then the latest fetched: a stale answer never replaces a newer state; what it
-- tells for the first time takes its place before (is_late). Whether a task is deleted, the latest fetched alone tells.
-- How far later loads prove a state that still stands is not told here, since each would change every row: it is told
-- once a load has closed the state, which brought the next one or no longer met the task.
-- key: task_id, position
-- as: table

with told as (
    select
        task_id,
        load_id,
        page,
        position,
        lane,
        fetched_at,
        is_deleted,
        coalesce(updated_at_ms, -1) as updated_at_ms,
        case
            when task.id is not null
                then {
                    'account': account,
                    'load_id': load_id,
                    'page': page,
                    'position': position,
                    'payload_sha256': payload_sha256,
                    'updated_at_ms': coalesce(updated_at_ms, -1),
                    'type': task.type,
                    'created_at': make_timestamptz(task.createdAt * 1000),
                    'scheduled_at': make_timestamptz(task.scheduledAt * 1000),
                    'updated_at': make_timestamptz(task.status.updatedAt * 1000),
                    'phase': task.status.phase,
                    'progress': task.status.progress,
                    'retries': task.status.retries,
                    'error_message': task.status.errorMessage
                }
        end as state
    from observations
    where task_id is not null
),

-- Most tasks are told of once: they take the short way.
repeated as (
    select task_id from told group by task_id having count(*) > 1
),

followed as (
    select
        told.*,
        min(fetched_at) over in_order as first_seen_at,
        max(state.updated_at_ms) over in_order as newest_ms
    from told
    semi join repeated on told.task_id = repeated.task_id
    window in_order as (partition by task_id order by load_id, page, position)
),

known as (
    select
        *,
        last_value(case when state.updated_at_ms = newest_ms then state end ignore nulls) over in_order as newest
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

standing as (
    select
        task_id, load_id, page, position, lane, fetched_at, first_seen_at, is_deleted, newest as state,
        state is not null as has_payload,
        was_deleted and not is_deleted as is_back,
        false as is_late,
        lead(load_id) over in_order as next_load_id,
        last_value(case when not is_deleted then {'load_id': load_id, 'at': fetched_at} end ignore nulls) over in_order as there,
        last_value(case when is_deleted and not was_deleted then {'load_id': load_id, 'at': fetched_at} end ignore nulls) over in_order as gone
    from compared
    where is_turn
    window in_order as (partition by task_id order by load_id, page, position)
),

late as (
    select
        task_id, load_id, page, position, lane, fetched_at, first_seen_at, false as is_deleted, state,
        true as has_payload,
        false as is_back,
        true as is_late,
        load_id as next_load_id,
        {'load_id': load_id, 'at': fetched_at} as there,
        null as gone
    from known
    anti join standing
        on known.task_id = standing.task_id and known.state.payload_sha256 = standing.state.payload_sha256
    where state.updated_at_ms < newest_ms and not is_deleted
    qualify row_number() over (partition by task_id, state.payload_sha256 order by load_id, page, position) = 1
),

placed as (
    select
        *,
        row_number() over (
            partition by task_id order by state.updated_at_ms, load_id, page, position
        ) - 1 as place
    from (from standing union all by name from late)
    union all by name
    select
        told.*,
        true as has_payload,
        false as is_back,
        fetched_at as first_seen_at,
        false as is_late,
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
    case
        when b.is_deleted or b.is_back then b.fetched_at - skew
        else coalesce(b.state.updated_at, b.fetched_at - skew)
    end as stood_from_at,
    case
        when b.is_deleted then b.fetched_at - skew
        when b.is_late then b.state.updated_at
        when b.closed_by_load_id is not null
            then greatest(b.state.updated_at, b.fetched_at - skew, p.proven_until_at)
    end as stood_until_at,
    l.finished_at as known_at,
    n.finished_at as superseded_at,
    b.first_seen_at,
    case
        when b.there is null then b.first_seen_at
        when b.closed_by_load_id is not null then greatest(b.there.at, p.swept_at)
    end as last_seen_at,
    case when b.is_deleted then b.gone.at end as deleted_at,
    case when b.is_deleted and b.there is not null then greatest(b.there.at, p.swept_at) end as deleted_after_at
from bounded as b
left join proofs as p on b.state.account = p.account and b.closed_by_load_id = p.before_load_id
inner join (
    select *, to_microseconds(cast(coalesce(clock_skew_seconds, 0) * 1000000 as bigint)) as skew from loads
) as l on b.load_id = l.load_id
left join loads as n on b.next_load_id = n.load_id
