"""What completed tasks hold: the outputs of each type, with assets, their tracks and hashes."""

from collections.abc import Callable
from random import Random

import msgspec

from pipelines.simulator.payloads import (
    GATEWAY,
    LADDER,
    NAMES,
    ODD_SHARE,
    Json,
    Media,
    Work,
    hexadecimal,
    make_cid,
    make_playback_id,
    pick,
    uuid4,
)


def output(random: Random, work: Work) -> Json | None:
    """The output of a completed task."""
    return OUTPUTS[work.type](random, work) if work.type in OUTPUTS else None


def _upload_output(random: Random, work: Work) -> Json:
    return {"upload": {"assetSpec": _asset(random, work.media)}}


def _clip_output(random: Random, work: Work) -> Json:
    files = [
        {"path": "index.m3u8", "spec": {}, "type": "catalyst_hls_manifest"},
        {"path": "video", "spec": {}, "type": "source_file"},
        {"path": "thumbnails/thumbnails.vtt", "spec": {}, "type": "thumbnails_vtt"},
    ]
    asset = _asset(random, work.media)
    video_spec = asset.pop("videoSpec")
    asset.pop("storage", None)
    asset.pop("playbackPolicy", None)
    asset |= {"files": files[: 2 + (random.random() < 0.5)], "videoSpec": video_spec}
    return {"clip": {"assetSpec": asset, "videoFilePath": "", "metadataFilePath": ""}}


def _transcode_file_output(random: Random, work: Work) -> Json:
    video: Json = {"size": work.media.size, "duration": work.media.seconds}
    if random.random() < ODD_SHARE:
        video = {"size": 9007199254740992, "duration": msgspec.Raw(b"1e+21")}  # they have been JavaScript doubles
    return {
        "transcodeFile": {
            "hls": {"path": "/v/hls/index.m3u8"},
            "mp4": [{"path": "/v/mp4/static720p.mp4"}],
            "request_id": hexadecimal(random, 10),
            "input_video": video,
        }
    }


def _export_output(random: Random, work: Work) -> Json:
    params = (work.params or {})["export"]
    if "custom" in params:
        return {"export": {"ipfs": {"videoFileCid": ""}}}
    cid = make_cid(random, "bafybei")
    ipfs = {"videoFileCid": cid}
    if "pinata" in params["ipfs"]:
        return {"export": {"ipfs": ipfs | {"videoFileUrl": f"ipfs://{cid}", "videoFileGatewayUrl": GATEWAY + cid}}}
    metadata = make_cid(random, "bafkrei")
    ipfs |= {"nftMetadataCid": metadata, "videoFileUrl": f"ipfs://{cid}", "videoFileGatewayUrl": GATEWAY + cid}
    ipfs |= {"nftMetadataUrl": f"ipfs://{metadata}", "nftMetadataGatewayUrl": GATEWAY + metadata}
    return {"export": {"ipfs": ipfs}}  # the URLs are added on the way out, hence not in jsonb's order


def _export_data_output(random: Random, work: Work) -> Json:
    return {"exportData": {"ipfs": {"cid": make_cid(random, "bafkrei")}}}


def _import_output(random: Random, work: Work) -> Json:
    session_id = (work.params or {})["import"].get("recordedSessionId")
    return {"import": _stored(random, _asset(random, work.media), session_id or uuid4(random))}


def _transcode_output(random: Random, work: Work) -> Json:
    """The asset is the media made: the source in one profile."""
    profile = (work.params or {})["transcode"]["profile"]
    size = int(work.media.seconds * profile["bitrate"] / 8)
    asset = _asset(random, Media(work.media.seconds, profile["height"], size))
    asset["name"] += f"_{profile['name']}"
    return {"transcode": {"asset": _stored(random, asset, uuid4(random))}}


def _stored(random: Random, asset: Json, recording_id: str) -> Json:
    """What imports and transcodes told until 2023 of an asset that they made."""
    asset["hash"] = [
        {"hash": hexadecimal(random, 32), "algorithm": "md5"},
        {"hash": hexadecimal(random, 64), "algorithm": "sha256"},
    ]
    asset["playbackRecordingId"] = recording_id
    path = f"https://storage.googleapis.com/bucket/{make_playback_id(random)}/video"
    return {"assetSpec": asset, "videoFilePath": path, "metadataFilePath": f"{path}.json"}


OUTPUTS: dict[str, Callable[[Random, Work], Json]] = {
    "upload": _upload_output,
    "clip": _clip_output,
    "transcode-file": _transcode_file_output,
    "export": _export_output,
    "export-data": _export_data_output,
    "import": _import_output,
    "transcode": _transcode_output,
}


def _asset(random: Random, media: Media) -> Json:
    asset: Json = {
        "hash": None,
        "name": pick(random, NAMES),
        "size": media.size,
        "type": "video" if media.height else "audio",
    }
    if random.random() < 0.06:
        asset["storage"] = {
            "ipfs": {
                "cid": make_cid(random, "bafybei"),
                "spec": {"nftMetadata": {"name": "n"}, "nftMetadataTemplate": "player"},
                "nftMetadata": {"cid": make_cid(random, "bafkrei")},
            },
            "status": {"phase": "waiting", "tasks": {}},
        }
    asset["videoSpec"] = _video_spec(random, media)
    if random.random() < 0.02:
        asset["playbackPolicy"] = {
            "type": "webhook",
            "webhookId": make_playback_id(random),
            "webhookContext": {"streamerId": "my-custom-id", "accessToken": f"ctx-{hexadecimal(random, 12)}"},
            "refreshInterval": 600,
        }
    return asset


def _video_spec(random: Random, media: Media) -> Json:
    tracks: list[Json] = []
    bitrate = 0
    if media.height:
        bitrate = int(media.size * 8 / max(media.seconds, 0.001))
        video: Json = {
            "fps": pick(random, (30, 30, 29.97, 25, 23.976, 60)),
            "type": "video",
            "codec": pick(random, ("h264", "h264", "h264", "hevc", "vp9")),
            "width": LADDER[media.height][0],
            "height": media.height,
            "bitrate": bitrate,
            "duration": media.seconds,
            "pixelFormat": "yuv420p",
        }
        tracks.append(video)
    if not media.height or random.random() < 0.9:
        audio: Json = {
            "type": "audio",
            "codec": pick(random, ("aac", "aac", "aac", "opus", "mp3")),
            "bitrate": 128_000,
            "channels": pick(random, (1, 2, 2, 6)),
            "duration": media.seconds,
        }
        if random.random() < 0.5:
            audio["startTime"] = 0.021
        audio["sampleRate"] = pick(random, (44_100, 48_000))
        tracks.append(audio)
        bitrate += 128_000
    spec: Json = {"format": pick(random, ("mp4", "mp4", "mkv", "hls", "webm")), "tracks": tracks}
    if random.random() > ODD_SHARE:
        spec["bitrate"] = bitrate
    spec["duration"] = media.seconds
    return spec
