/*
description: >-
  Values that did not fit their column.
*/

select count(*) as value
from quarantine
