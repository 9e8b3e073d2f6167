"""Flattening once more, in plain Python and slowly: what the tables must hold for a payload."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Reader = Callable[[Any], Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def boolean(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except OverflowError:
        return None


def integer(value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> Any:
    if number(value) is None or value != math.floor(value):
        return None
    return int(value) if low <= int(value) <= high else None


def moment(value: Any) -> Any:
    millis = integer(value, -62_135_596_800_000, 253_402_300_799_999)
    return None if millis is None else EPOCH + timedelta(milliseconds=millis)


def free(value: Any) -> Any:
    """Free-form JSON as the column's text, to be compared parsed."""
    if value is None or has_no_json(value):
        return None
    return clean(value)


def has_no_json(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_no_json, value.values()))
    return isinstance(value, list) and any(map(has_no_json, value))


def clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {text(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    return text(value) if isinstance(value, str) else value


def list_of(read: Reader) -> Reader:
    return lambda value: [read(item) for item in value] if isinstance(value, list) else None


def at(value: Any, path: str) -> Any:
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def asset(task: Any) -> Any:
    """The first asset specification there is."""
    return next((found for place in PUT_OUT if isinstance(found := at(task, f"{place}/assetSpec"), dict)), None)


def first(read: Reader, *paths: str) -> Reader:
    """The first of several places that holds what fits."""
    return lambda task: next((value for path in paths if (value := read(at(task, path))) is not None), None)


def of_asset(read: Reader, path: str) -> Reader:
    return lambda task: read(at(asset(task), path))


def creator(task: Any) -> Any:
    found = free(at(task, "params/transcode-file/creatorId"))
    return found if found is not None else free(at(asset(task), "creatorId"))


def creator_id(task: Any) -> Any:
    found = creator(task)
    return spelt(found.get("value")) if isinstance(found, dict) else spelt(found)


def creator_id_type(task: Any) -> Any:
    found = creator(task)
    return spelt(found.get("type")) if isinstance(found, dict) else None


def spelt(value: Any) -> Any:
    """A JSON value as `->>` spells it; numbers are compared as numbers."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def finished_at(task: Any) -> Any:
    ended = at(task, "status/phase") in ("completed", "failed", "cancelled")
    return moment(at(task, "status/updatedAt")) if ended else None


def either(one: Reader, other: Reader) -> Reader:
    return lambda task: one(task) if one(task) is not None else other(task)


PUT_OUT = ("output/upload", "output/clip", "output/import", "output/transcode/asset")
UPLOAD, FILE, CLIP, EXPORT = "params/upload", "params/transcode-file", "params/clip", "params/export"
TASKS: dict[str, Reader] = {
    "type": first(text, "type"),
    "phase": first(text, "status/phase"),
    "created_at": first(moment, "createdAt"),
    "scheduled_at": first(moment, "scheduledAt"),
    "updated_at": first(moment, "status/updatedAt"),
    "finished_at": finished_at,
    "progress": first(number, "status/progress"),
    "retries": first(integer, "status/retries"),
    "error_message": first(text, "status/errorMessage"),
    "step": first(text, "status/step"),
    "user_id": first(text, "userId"),
    "project_id": first(text, "projectId"),
    "requester_id": first(text, "requesterId"),
    "input_asset_id": first(text, "inputAssetId"),
    "output_asset_id": first(text, "outputAssetId"),
    "source_url": first(text, f"{UPLOAD}/url", "params/import/url", f"{FILE}/input/url", f"{CLIP}/url"),
    "uploaded_object_key": first(text, f"{UPLOAD}/uploadedObjectKey", "params/import/uploadedObjectKey"),
    "recorded_session_id": first(text, f"{UPLOAD}/recordedSessionId", "params/import/recordedSessionId"),
    "creator_id": creator_id,
    "creator_id_type": creator_id_type,
    "is_c2pa": first(boolean, f"{UPLOAD}/c2pa", f"{FILE}/c2pa"),
    "target_segment_seconds": first(number, f"{UPLOAD}/targetSegmentSizeSecs", f"{FILE}/targetSegmentSizeSecs"),
    "has_thumbnails": first(boolean, f"{UPLOAD}/thumbnails"),
    "encryption": first(free, f"{UPLOAD}/encryption", "params/import/encryption"),
    "output_storage_url": first(text, f"{FILE}/storage/url"),
    "output_hls_path": first(text, f"{FILE}/outputs/hls/path"),
    "output_mp4_path": first(text, f"{FILE}/outputs/mp4/path"),
    "clip_input_id": first(text, f"{CLIP}/inputId"),
    "clip_session_id": first(text, f"{CLIP}/sessionId"),
    "clip_playback_id": first(text, f"{CLIP}/clipStrategy/playbackId"),
    "clip_start_at": first(moment, f"{CLIP}/clipStrategy/startTime"),
    "clip_end_at": first(moment, f"{CLIP}/clipStrategy/endTime"),
    "clip_source_object_store_id": first(text, f"{CLIP}/sourceObjectStoreId"),
    "clip_pipeline_strategy": first(text, f"{CLIP}/catalystPipelineStrategy"),
    "export_url": first(text, f"{EXPORT}/custom/url"),
    "export_method": first(text, f"{EXPORT}/custom/method"),
    "export_headers": first(free, f"{EXPORT}/custom/headers"),
    "pinata": first(free, f"{EXPORT}/ipfs/pinata", "params/exportData/ipfs/pinata"),
    "nft_metadata_template": first(
        text, f"{EXPORT}/ipfs/nftMetadataTemplate", "params/exportData/ipfs/nftMetadataTemplate"
    ),
    "nft_metadata": first(free, f"{EXPORT}/ipfs/nftMetadata", "params/exportData/ipfs/nftMetadata"),
    "export_data_id": first(text, "params/exportData/id"),
    "export_data_type": first(text, "params/exportData/type"),
    "export_data_content": first(free, "params/exportData/content"),
    "video_file_cid": first(text, "output/export/ipfs/videoFileCid"),
    "video_file_url": first(text, "output/export/ipfs/videoFileUrl"),
    "video_file_gateway_url": first(text, "output/export/ipfs/videoFileGatewayUrl"),
    "nft_metadata_cid": first(text, "output/export/ipfs/nftMetadataCid"),
    "nft_metadata_url": first(text, "output/export/ipfs/nftMetadataUrl"),
    "nft_metadata_gateway_url": first(text, "output/export/ipfs/nftMetadataGatewayUrl"),
    "export_data_cid": first(text, "output/exportData/ipfs/cid"),
    "transcode_request_id": first(text, "output/transcodeFile/request_id"),
    "video_file_path": first(text, *(f"{place}/videoFilePath" for place in PUT_OUT)),
    "metadata_file_path": first(text, *(f"{place}/metadataFilePath" for place in PUT_OUT)),
    "asset_id": of_asset(text, "id"),
    "asset_type": of_asset(text, "type"),
    "asset_name": of_asset(text, "name"),
    "asset_size_bytes": either(of_asset(integer, "size"), first(integer, "output/transcodeFile/input_video/size")),
    "media_format": of_asset(text, "videoSpec/format"),
    "media_duration_seconds": either(
        of_asset(number, "videoSpec/duration"), first(number, "output/transcodeFile/input_video/duration")
    ),
    "media_bitrate_bps": of_asset(number, "videoSpec/bitrate"),
    "playback_id": of_asset(text, "playbackId"),
    "asset_playback_recording_id": of_asset(text, "playbackRecordingId"),
    "playback_url": of_asset(text, "playbackUrl"),
    "download_url": of_asset(text, "downloadUrl"),
    "is_static_mp4": of_asset(boolean, "staticMp4"),
    "asset_user_id": of_asset(text, "userId"),
    "asset_project_id": of_asset(text, "projectId"),
    "asset_created_at": of_asset(moment, "createdAt"),
    "asset_created_by_token_name": of_asset(text, "createdByTokenName"),
    "playback_policy_type": of_asset(text, "playbackPolicy/type"),
    "playback_policy_webhook_id": of_asset(text, "playbackPolicy/webhookId"),
    "playback_policy_webhook_context": of_asset(free, "playbackPolicy/webhookContext"),
    "playback_policy_refresh_seconds": of_asset(number, "playbackPolicy/refreshInterval"),
    "playback_policy_allowed_origins": of_asset(list_of(text), "playbackPolicy/allowedOrigins"),
    "asset_source_type": of_asset(text, "source/type"),
    "asset_source_url": of_asset(text, "source/url"),
    "asset_source_gateway_url": of_asset(text, "source/gatewayUrl"),
    "asset_source_encryption": of_asset(free, "source/encryption"),
    "asset_source_id": of_asset(text, "source/sourceId"),
    "asset_source_session_id": of_asset(text, "source/sessionId"),
    "asset_source_playback_id": of_asset(text, "source/playbackId"),
    "asset_source_requester_id": of_asset(text, "source/requesterId"),
    "asset_source_asset_id": of_asset(text, "source/assetId"),
    "asset_ipfs_cid": of_asset(text, "storage/ipfs/cid"),
    "asset_ipfs_url": of_asset(text, "storage/ipfs/url"),
    "asset_ipfs_gateway_url": of_asset(text, "storage/ipfs/gatewayUrl"),
    "asset_nft_metadata_template": of_asset(text, "storage/ipfs/spec/nftMetadataTemplate"),
    "asset_nft_metadata": of_asset(free, "storage/ipfs/spec/nftMetadata"),
    "asset_nft_metadata_cid": of_asset(text, "storage/ipfs/nftMetadata/cid"),
    "asset_nft_metadata_url": of_asset(text, "storage/ipfs/nftMetadata/url"),
    "asset_nft_metadata_gateway_url": of_asset(text, "storage/ipfs/nftMetadata/gatewayUrl"),
    "asset_ipfs_updated_at": of_asset(moment, "storage/ipfs/updatedAt"),
    "asset_storage_phase": of_asset(text, "storage/status/phase"),
    "asset_storage_progress": of_asset(number, "storage/status/progress"),
    "asset_storage_error_message": of_asset(text, "storage/status/errorMessage"),
    "asset_storage_pending_task_id": of_asset(text, "storage/status/tasks/pending"),
    "asset_storage_last_task_id": of_asset(text, "storage/status/tasks/last"),
    "asset_storage_failed_task_id": of_asset(text, "storage/status/tasks/failed"),
    "asset_phase": of_asset(text, "status/phase"),
    "asset_updated_at": of_asset(moment, "status/updatedAt"),
    "asset_progress": of_asset(number, "status/progress"),
    "asset_error_message": of_asset(text, "status/errorMessage"),
}
JSON_COLUMNS = {
    "encryption", "export_headers", "pinata", "nft_metadata", "export_data_content", "playback_policy_webhook_context",
    "asset_source_encryption", "asset_nft_metadata",
}  # fmt: skip
# Columns of the tasks table that tell of the archive, not of the payload.
ABOUT_THE_ARCHIVE = {
    "task_id", "account", "deleted_at", "deleted_after_at", "first_seen_at", "last_seen_at", "observed_at", "known_at",
    "closed_by_load_id", "load_id", "payload_sha256",
}  # fmt: skip

PROFILE: dict[str, Reader] = {
    "name": first(text, "name"),
    "width": first(integer, "width"),
    "height": first(integer, "height"),
    "bitrate_bps": first(integer, "bitrate"),
    "fps": first(number, "fps"),
    "fps_den": first(integer, "fpsDen"),
    "quality": first(integer, "quality"),
    "gop": lambda rung: spelt(free(at(rung, "gop"))),
    "profile": first(text, "profile"),
    "encoder": first(text, "encoder"),
}
TRACK: dict[str, Reader] = {
    "type": first(text, "type"),
    "codec": first(text, "codec"),
    "start_time_seconds": first(number, "startTime"),
    "duration_seconds": first(number, "duration"),
    "bitrate_bps": first(number, "bitrate"),
    "width": first(integer, "width"),
    "height": first(integer, "height"),
    "pixel_format": first(text, "pixelFormat"),
    "fps": first(number, "fps"),
    "channels": first(integer, "channels"),
    "sample_rate_hz": first(integer, "sampleRate"),
    "bit_depth": first(integer, "bitDepth"),
}
HASH: dict[str, Reader] = {"algorithm": first(text, "algorithm"), "hash": first(text, "hash")}


def rows(task: Any) -> dict[str, list[dict[str, Any]]]:
    """What each core table must hold of a payload, in the order of position."""
    single = at(task, "params/transcode/profile")
    ladders = (
        at(task, f"{UPLOAD}/profiles"),
        at(task, f"{FILE}/profiles"),
        [single] if isinstance(single, dict) else None,
        at(asset(task), "profiles"),
    )
    ladder = next((found for found in ladders if isinstance(found, list)), [])
    return {
        "tasks": [{name: read(task) for name, read in TASKS.items()}],
        "profiles": [{name: read(rung) for name, read in PROFILE.items()} for rung in ladder],
        "tracks": [
            {name: read(track) for name, read in TRACK.items()} for track in listed(at(asset(task), "videoSpec/tracks"))
        ],
        "hashes": [{name: read(one) for name, read in HASH.items()} for one in listed(at(asset(task), "hash"))],
        "files": list(files(task)),
    }


def files(task: Any) -> Any:
    for file in listed(at(asset(task), "files")):
        yield {"type": text(at(file, "type")), "path": text(at(file, "path")), "spec": free(at(file, "spec"))}
    hls = at(task, "output/transcodeFile/hls")
    if isinstance(hls, dict):
        yield {"type": "hls", "path": text(hls.get("path")), "spec": None}
    for mp4 in listed(at(task, "output/transcodeFile/mp4")):
        yield {"type": "mp4", "path": text(at(mp4, "path")), "spec": None}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
