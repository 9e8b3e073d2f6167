/*
description: >-
  Landed files that are missing or were set aside as damaged.
*/

select count(*) as value
from damaged_files
