/*
description: >-
  Up to then the archive holds every change of an account, Unix time; nothing before the first proof.
*/

select account, epoch(proven_until_at) as value
from freshness
where proven_until_at is not null
