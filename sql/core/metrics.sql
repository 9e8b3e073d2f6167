/*
description: 'What each number means: the definitions that stand in the .sql files of the tables that give them.'
key: [table_name, metric]
*/

select
    metric,                                             -- the number: a column of the table
    table_name,                                         -- table that gives it
    formula,                                            -- how it is computed, in words
    unit,                                               -- its unit
    population,                                         -- the rows it is about
    excludes as leaves_out,                             -- which of them it leaves out
    "filter" as counted,                                -- condition in SQL for the rows that stand behind it, on the relation that the table is made from
    n,                                                  -- column of the table that counts them
    minimum_n,                                          -- below it the number is null: it would be chance
    nullif(non_additive_dimension, '') as not_across,   -- column of the table's key over which it is not to be put together; null: none
    caveat,                                             -- what to mind
    better                                              -- lower or higher where one is better, else neither
from metric_definitions
order by table_name, metric
