/*
description: >-
  Paths of payloads that leave the contract.
*/

select count(*) as value
from drift
