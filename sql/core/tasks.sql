/*
description: >-
  Every task the archive ever saw, one row each, in its newest observed state. Of a transcode task, what stands as
  the source media is the media that it made.
key: [task_id]
checks:
  - first_seen_at <= last_seen_at
warnings:
  - deleted_after_at is null or deleted_after_at <= deleted_at
  - observed_at <= known_at
  - phase in ('pending', 'waiting', 'running', 'completed', 'failed', 'cancelled')
  - type in ('upload', 'import', 'clip', 'transcode', 'transcode-file', 'export', 'export-data')
  - created_at <= updated_at
  - created_at <= scheduled_at
  - scheduled_at <= updated_at
  - media_duration_seconds >= 0 and asset_size_bytes >= 0
*/

with states as (
    select
        *,
        task.params as params,
        task.output as output,
        coalesce(task.params."transcode-file".creatorId, asset.creatorId) as creator
    from newest
)

select
    task_id,                                                                  -- the task's id
    account,                                                                  -- account whose API key saw it
    task.type as type,                                                        -- task type, in Livepeer's words
    task.status.phase as phase,                                               -- pending, waiting, running, completed, failed or cancelled; failed is not final
    make_timestamptz(task.createdAt * 1000) as created_at,                    -- when it was created, UTC
    make_timestamptz(task.scheduledAt * 1000) as scheduled_at,                -- when it was last scheduled, UTC: rewritten when the user has it retried, kept by the server's own retries; null while an upload is awaited
    make_timestamptz(task.status.updatedAt * 1000) as updated_at,             -- when its status last changed, UTC
    case
        when task.status.phase in ('completed', 'failed', 'cancelled')
            then make_timestamptz(task.status.updatedAt * 1000)
    end as finished_at,                                                       -- when it completed, failed or was cancelled, UTC; null while open
    task.status.progress as progress,                                         -- share done, 0 to 1; erased when it ends
    task.status.retries as retries,                                           -- attempts repeated so far; null once completed: see task_attempts for what history knows
    task.status.errorMessage as error_message,                                -- why it failed, or why an attempt failed while it waits for the next
    task.status.step as step,                                                 -- step of the processing
    task.userId as user_id,                                                   -- user it belongs to
    task.projectId as project_id,                                             -- project it belongs to
    task.requesterId as requester_id,                                         -- who asked for a clip: a hash of address and playback id
    task.inputAssetId as input_asset_id,                                      -- asset that is exported
    task.outputAssetId as output_asset_id,                                    -- asset that is made
    coalesce(
        params.upload.url, params.import.url, params."transcode-file".input.url, params.clip.url
    ) as source_url,                                                          -- where the media comes from; secrets redacted
    coalesce(
        params.upload.uploadedObjectKey, params.import.uploadedObjectKey
    ) as uploaded_object_key,                                                 -- where the server kept a file that was uploaded directly: its path in the object store, told by old tasks
    coalesce(
        params.upload.recordedSessionId, params.import.recordedSessionId
    ) as recorded_session_id,                                                 -- session whose recording became the asset, told by old tasks
    case
        when json_type(creator) = 'OBJECT' then creator ->> '$.value' else creator ->> '$'
    end as creator_id,                                                        -- the developer's id of the creator
    creator ->> '$.type' as creator_id_type,                                  -- how far the creator's id is verified; null where it is bare text
    coalesce(params.upload.c2pa, params."transcode-file".c2pa) as is_c2pa,    -- whether a C2PA signature was asked for
    coalesce(
        params.upload.targetSegmentSizeSecs, params."transcode-file".targetSegmentSizeSecs
    ) as target_segment_seconds,                                              -- length of output segments asked for, seconds
    params.upload.thumbnails as has_thumbnails,                               -- whether thumbnails were asked for
    coalesce(params.upload.encryption, params.import.encryption) as encryption, -- encryption asked for, JSON; keys masked or redacted
    params."transcode-file".storage.url as output_storage_url,                -- storage a transcode-file task writes to; secrets redacted
    params."transcode-file".outputs.hls.path as output_hls_path,              -- path asked for HLS outputs
    params."transcode-file".outputs.mp4.path as output_mp4_path,              -- path asked for MP4 outputs
    params.clip.inputId as clip_input_id,                                     -- stream or asset that is clipped
    params.clip.sessionId as clip_session_id,                                 -- session that is clipped
    params.clip.clipStrategy.playbackId as clip_playback_id,                  -- playback id that is clipped
    make_timestamptz(params.clip.clipStrategy.startTime * 1000) as clip_start_at, -- start of the clip, UTC
    make_timestamptz(params.clip.clipStrategy.endTime * 1000) as clip_end_at, -- end of the clip, UTC
    params.clip.sourceObjectStoreId as clip_source_object_store_id,           -- object store the clip is read from
    params.clip.catalystPipelineStrategy as clip_pipeline_strategy,           -- pipeline strategy forced on a clip
    params.export.custom.url as export_url,                                   -- where a custom export is sent; secrets redacted
    params.export.custom.method as export_method,                             -- HTTP method of a custom export
    params.export.custom.headers as export_headers,                           -- headers of a custom export, JSON; values redacted
    coalesce(params.export.ipfs.pinata, params.exportData.ipfs.pinata) as pinata, -- the user's Pinata account, JSON; values redacted
    coalesce(
        params.export.ipfs.nftMetadataTemplate, params.exportData.ipfs.nftMetadataTemplate
    ) as nft_metadata_template,                                               -- template of the NFT metadata, file or player
    coalesce(params.export.ipfs.nftMetadata, params.exportData.ipfs.nftMetadata) as nft_metadata, -- the user's NFT metadata, JSON
    params.exportData.id as export_data_id,                                   -- id of the content of an export-data task
    params.exportData.type as export_data_type,                               -- type of that content
    params.exportData.content as export_data_content,                         -- that content, JSON
    output.export.ipfs.videoFileCid as video_file_cid,                        -- IPFS id of an exported video; empty for a custom export
    output.export.ipfs.videoFileUrl as video_file_url,                        -- ipfs:// address of an exported video
    output.export.ipfs.videoFileGatewayUrl as video_file_gateway_url,         -- https address of an exported video
    output.export.ipfs.nftMetadataCid as nft_metadata_cid,                    -- IPFS id of exported NFT metadata
    output.export.ipfs.nftMetadataUrl as nft_metadata_url,                    -- ipfs:// address of exported NFT metadata
    output.export.ipfs.nftMetadataGatewayUrl as nft_metadata_gateway_url,     -- https address of exported NFT metadata
    output.exportData.ipfs.cid as export_data_cid,                            -- IPFS id of exported data
    output.transcodeFile.request_id as transcode_request_id,                  -- the transcoder's id of a transcode-file task
    coalesce(
        output.upload.videoFilePath,
        output.clip.videoFilePath,
        output.import.videoFilePath,
        output.transcode.asset.videoFilePath
    ) as video_file_path,                                                     -- where the video file was stored; secrets redacted
    coalesce(
        output.upload.metadataFilePath,
        output.clip.metadataFilePath,
        output.import.metadataFilePath,
        output.transcode.asset.metadataFilePath
    ) as metadata_file_path,                                                  -- where the metadata file was stored; secrets redacted
    asset.id as asset_id,                                                     -- id of the asset made
    asset.type as asset_type,                                                 -- video or audio
    asset.name as asset_name,                                                 -- name of the asset, given by the user
    coalesce(asset.size, output.transcodeFile.input_video.size) as asset_size_bytes, -- size of the source media, bytes
    asset.videoSpec.format as media_format,                                   -- container of the source media
    coalesce(
        asset.videoSpec.duration, output.transcodeFile.input_video.duration
    ) as media_duration_seconds,                                              -- length of the source media, seconds; exports and failed tasks have none
    asset.videoSpec.bitrate as media_bitrate_bps,                             -- bit rate of the source media, bits per second
    asset.playbackId as playback_id,                                          -- playback id of the asset made
    asset.playbackRecordingId as asset_playback_recording_id,                 -- recording that the asset made is played from, told by old tasks
    asset.playbackUrl as playback_url,                                        -- HLS address of the asset made
    asset.downloadUrl as download_url,                                        -- download address of the asset made
    asset.staticMp4 as is_static_mp4,                                         -- whether MP4 renditions were asked for
    asset.userId as asset_user_id,                                            -- user the asset belongs to
    asset.projectId as asset_project_id,                                      -- project the asset belongs to
    make_timestamptz(asset.createdAt * 1000) as asset_created_at,             -- when the asset was created, UTC
    asset.createdByTokenName as asset_created_by_token_name,                  -- name of the API key that created the asset
    asset.playbackPolicy.type as playback_policy_type,                        -- public, jwt or webhook
    asset.playbackPolicy.webhookId as playback_policy_webhook_id,             -- webhook that grants playback
    asset.playbackPolicy.webhookContext as playback_policy_webhook_context,   -- the user's context for that webhook, JSON; values redacted
    asset.playbackPolicy.refreshInterval as playback_policy_refresh_seconds,  -- how often playback is granted anew, seconds
    asset.playbackPolicy.allowedOrigins as playback_policy_allowed_origins,   -- origins that may play
    asset.source.type as asset_source_type,                                   -- url, recording, directUpload or clip
    asset.source.url as asset_source_url,                                     -- address the asset was made from; secrets redacted
    asset.source.gatewayUrl as asset_source_gateway_url,                      -- the same through a gateway
    asset.source.encryption as asset_source_encryption,                       -- its encryption, JSON; keys redacted
    asset.source.sourceId as asset_source_id,                                 -- stream or asset the asset was made from
    asset.source.sessionId as asset_source_session_id,                        -- session the asset was made from
    asset.source.playbackId as asset_source_playback_id,                      -- playback id the asset was made from
    asset.source.requesterId as asset_source_requester_id,                    -- who asked for it
    asset.source.assetId as asset_source_asset_id,                            -- asset the asset was made from
    asset.storage.ipfs.cid as asset_ipfs_cid,                                 -- IPFS id of the asset
    asset.storage.ipfs.url as asset_ipfs_url,                                 -- ipfs:// address of the asset
    asset.storage.ipfs.gatewayUrl as asset_ipfs_gateway_url,                  -- https address of the asset on IPFS
    asset.storage.ipfs.spec.nftMetadataTemplate as asset_nft_metadata_template, -- template of the asset's NFT metadata
    asset.storage.ipfs.spec.nftMetadata as asset_nft_metadata,                -- the user's NFT metadata of the asset, JSON
    asset.storage.ipfs.nftMetadata.cid as asset_nft_metadata_cid,             -- IPFS id of the asset's NFT metadata
    asset.storage.ipfs.nftMetadata.url as asset_nft_metadata_url,             -- ipfs:// address of the asset's NFT metadata
    asset.storage.ipfs.nftMetadata.gatewayUrl as asset_nft_metadata_gateway_url, -- https address of the asset's NFT metadata
    make_timestamptz(asset.storage.ipfs.updatedAt * 1000) as asset_ipfs_updated_at, -- when the asset's IPFS export changed, UTC
    asset.storage.status.phase as asset_storage_phase,                        -- phase of the asset's storage
    asset.storage.status.progress as asset_storage_progress,                  -- progress of the asset's storage, 0 to 1
    asset.storage.status.errorMessage as asset_storage_error_message,         -- why the asset's storage failed
    asset.storage.status.tasks.pending as asset_storage_pending_task_id,      -- task that stores the asset now
    asset.storage.status.tasks.last as asset_storage_last_task_id,            -- task that stored the asset last
    asset.storage.status.tasks.failed as asset_storage_failed_task_id,        -- task that failed to store the asset
    asset.status.phase as asset_phase,                                        -- phase of the asset
    make_timestamptz(asset.status.updatedAt * 1000) as asset_updated_at,      -- when the asset's status changed, UTC
    asset.status.progress as asset_progress,                                  -- progress of the asset, 0 to 1
    asset.status.errorMessage as asset_error_message,                         -- why making the asset failed
    deleted_at,                                                               -- when the API was first seen not to have it any more since it was last seen there, UTC; null while it has
    deleted_after_at,                                                         -- when it was last known to be there before that, UTC: the deletion lies between
    first_seen_at,                                                            -- when the archive first saw it, UTC
    last_seen_at,                                                             -- when the API was last known to show it: fetched, or still listed when a proven sweep began, UTC; null while it does: then it is the later of observed_at and swept_at in freshness
    closed_by_load_id,                                                        -- load that no longer found it, or brought the next state; null while it stands
    observed_at,                                                              -- when it was first fetched in this state, its deletion included, UTC
    known_at,                                                                 -- when the load that did so was complete, UTC: versions published from then on hold this state
    load_id,                                                                  -- load that brought this state
    payload_sha256                                                            -- hash of the redacted payload in the landing zone
from states
