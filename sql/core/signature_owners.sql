/*
description: >-
  Who is to act on a failure: the first pattern, in this order, that an error template matches tells it. The rows
  are those of sql/seeds/signature_owners.csv: extend it with the errors that you know.
key: [position]
checks:
  - owner in ('user', 'platform')
*/

select
    position,                                           -- place in the file, from 0: the first match counts
    pattern,                                            -- what a template is like: % stands for any text, whatever the case
    owner,                                              -- user: whoever made the task or its file; platform: Livepeer
    advice                                              -- what to do about it
from signature_owners_seed
order by position
