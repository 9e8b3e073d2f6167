/*
description: 'The types of tasks: those that we know, and any other that the facts hold.'
key: [type]
*/

with known as (
    select *
    from (
        values
        ('upload', 'Upload', 'ingest', true, false, 'An asset made from a file that is uploaded or fetched from a URL'),
        ('import', 'Import', 'ingest', true, true, 'An asset made from a URL: upload in its form of until 2023'),
        ('transcode-file', 'Transcode file', 'transcode', true, false, 'A file transcoded into a storage of the user'),
        ('transcode', 'Transcode', 'transcode', true, true, 'An asset transcoded into another one, until 2023'),
        ('clip', 'Clip', 'clip', true, false, 'An asset cut from a stream or another asset'),
        ('export', 'Export', 'export', false, false, 'An asset sent to IPFS or a storage of the user'),
        ('export-data', 'Export data', 'export', false, false, 'JSON sent to IPFS')
    ) as listed(type, label, type_group, has_media, is_legacy, description)
)

select
    coalesce(k.type, f.type) as type,                                         -- the type, in Livepeer's words
    coalesce(k.label, f.type) as label,                                       -- what to call it in a chart
    coalesce(k.type_group, 'other') as type_group,                            -- ingest, transcode, clip, export or other
    k.has_media,                                                              -- whether completed tasks tell of their source media; null: not known
    coalesce(k.is_legacy, false) as is_legacy,                                -- whether the API makes no new ones
    coalesce(k.description, 'Not described by the API') as description,       -- what such a task does
    k.type is not null as is_known                                            -- whether this archive knows the type
from known as k
full outer join (select distinct type from fact_tasks) as f on k.type = f.type
order by type
