/*
description: >-
  What the loads of an account before each load had proved. A sweep and a change load prove of each task that they
  did not bring that nothing of it had changed when they began; that it was still listed, a sweep alone. A sweep
  that ended broken proves nothing.
key: [account, before_load_id]
*/

with proving as (
    select
        account,
        load_id,
        case when lane = 'sweep' and verdict != 'broken' then started_at end as swept_at,
        case when proven_until_at is not null then started_at end as proven_at,
        proven_until_at
    from loads
)

select
    account,
    load_id as before_load_id,
    max(swept_at) over earlier as swept_at,
    max(proven_at) over earlier as proven_at,
    max(proven_until_at) over earlier as proven_until_at
from proving
window earlier as (partition by account order by load_id rows between unbounded preceding and 1 preceding)
