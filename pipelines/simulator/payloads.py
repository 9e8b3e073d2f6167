"""What the tasks are asked to do: params and source media of each type, odd shapes and secrets included.

Keys are written in the order of PostgreSQL's jsonb (by length, then by text), which is the order the API shows.
Every key, password and token in here is made up; some are used by many tasks, as an account's own would be.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

Json = dict[str, Any]
T = TypeVar("T")

NAMES = (
    "IMG_0042.MOV",
    "demo.mp4",
    'raw "cut" v2.mkv',
    "Livestream highlights.mp4",
    "épisode 12 — finale.mov",
    "clip 🎬.mp4",
    "会議の録画 2024-03-01.mp4",
    "c:\\export\\final.mp4",
    "talk (1080p)\tcopy.webm",
    "O'Brien & sons.mp4",
)
CREATORS: tuple[Any, ...] = (
    "0xabc",
    {"type": "unverified", "value": "u1"},
    {"type": "unverified", "value": "user-ß-42"},
    "0x4739a9745adc22b13309503e00a89633F3eb6e28",
)
# height: (width, typical bits per second, seconds of work for a second of media)
LADDER = {
    360: (640, 900_000, 0.1),
    480: (854, 1_600_000, 0.15),
    720: (1280, 3_000_000, 0.27),
    1080: (1920, 6_000_000, 0.5),
    1920: (1080, 6_000_000, 0.5),
    2160: (3840, 18_000_000, 1.3),
}
HEIGHTS = (360, 480, 720, 720, 720, 1080, 1080, 1080, 1080, 1920, 2160)
PROFILES: tuple[Json, ...] = (
    {"fps": 0, "name": "480p0", "width": 854, "height": 480, "bitrate": 1_600_000},
    {
        "fps": 30,
        "gop": "2.0",
        "name": "720p0",
        "width": 1280,
        "height": 720,
        "bitrate": 3_000_000,
        "profile": "H264ConstrainedHigh",
    },
    {
        "fps": 0,
        "gop": "intra",
        "name": "1080p0",
        "width": 1920,
        "fpsDen": 1,
        "height": 1080,
        "bitrate": 6_500_000,
        "encoder": "H.264",
        "profile": "H264High",
        "quality": 23,
    },
    {"name": "360p0", "width": 640, "height": 360, "bitrate": 900_000},
)
ACCOUNT_BEARERS = ("export-secret-token", "export-secret-token-2", "EXPORTSECRETaca4b135")
ACCOUNT_PINATA: tuple[Json, ...] = (
    {"jwt": "eyJhbGciOiJIUzI1NiJ9.PINATA.JWTSECRET"},
    {"apiKey": "pinata-api-key", "apiSecret": "pinata-api-secret"},
)
ACCOUNT_PROOF = "EaJlcm9vdHOAZ3ZlcnNpb24BmgIBcRIg"
GATEWAY = "https://ipfs.livepeer.studio/ipfs/"
ODD_SHARE = 0.004  # share of tasks with each of the rarer odd shapes


class Media(NamedTuple):
    """The source: `seconds` long, `size` in bytes. Height 0: audio only."""

    seconds: float
    height: int
    size: int


class Work(NamedTuple):
    """What a task is asked to do. `links`: top-level fields that name its assets and requester."""

    type: str
    params: Json | None
    links: dict[str, str]
    media: Media
    is_direct_upload: bool = False


def uuid4(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) % 4]}{digits[17:20]}-{digits[20:]}"
    )


def pick(random: Random, options: Sequence[T]) -> T:
    """random.choice, three times as fast."""
    return options[int(random.random() * len(options))]


def hexadecimal(random: Random, digits: int) -> str:
    return f"{random.getrandbits(4 * digits):0{digits}x}"


def js_number(value: float, digits: int = 3) -> float:
    """A rounded number; whole ones as int, since JavaScript writes 30, not 30.0."""
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


# --- what is asked for ------------------------------------------------------------------------------------------


def upload(random: Random, task_id: str) -> Work:
    source = random.random()
    if source < 0.30:
        url = f"https://storage.example.com/vod/directUpload/{make_playback_id(random)}"
    elif source < 0.55:
        url = (
            f"https://bucket.s3.amazonaws.com/{task_id}?X-Amz-Credential=AKIAEXAMPLE"
            f"&X-Amz-Signature={hexadecimal(random, 16)}"
        )
    elif source < 0.85:
        url = f"https://cdn.example.com/in/{task_id}.mp4"
    elif source < 0.92:
        url = f"ipfs://{make_cid(random, 'bafybei')}"
    elif source < 0.96:
        url = f"https://user:pa55{hexadecimal(random, 4)}@origin.example.com/in/{task_id}.mp4"
    else:
        url = f"https://cdn.example.com/in/{task_id}.mp4?token={hexadecimal(random, 12)}"
    params: Json = {"url": url}
    if random.random() < 0.2:
        params["c2pa"] = random.random() < 0.8
    profiles = _profiles(random)
    if profiles is not None:
        params["profiles"] = profiles
    if random.random() < 0.05:
        params["encryption"] = {"key": "***"}
    params["thumbnails"] = True
    if random.random() < 0.15:
        params["targetSegmentSizeSecs"] = 6
    links = {"outputAssetId": uuid4(random)}
    return Work("upload", {"upload": params}, links, _media(random), is_direct_upload=source < 0.30)


def transcode_file(random: Random, task_id: str) -> Work:
    source = pick(
        random,
        (
            f"https://cdn.example.com/{task_id}.mp4",
            f"s3+https://***:***@s3.us-east-1.amazonaws.com/in/a/{task_id}.mp4",
            f"s3://AKIAEXAMPLE:{hexadecimal(random, 10)}@host/in/{task_id}.mp4",
        ),
    )
    storage = pick(
        random,
        (
            "s3+https://***:***@s3.us-east-1.amazonaws.com/out",
            "s3+https://***:***@s3.us-east-1.amazonaws.com/out",
            f"w3s://{ACCOUNT_PROOF}@/",
            f"w3s://PROOF{hexadecimal(random, 16)}@/",
            f"gs://user:{hexadecimal(random, 10)}@bucket/out",
        ),
    )
    params: Json = {"input": {"url": source}, "outputs": {"hls": {"path": "/v/hls"}}, "storage": {"url": storage}}
    if random.random() < 0.6:
        params["outputs"]["mp4"] = {"path": "/v/mp4"}
    profiles = _profiles(random)
    if profiles is not None:
        params["profiles"] = profiles
    if random.random() < 0.7:
        params["creatorId"] = pick(random, CREATORS)
    params["targetSegmentSizeSecs"] = 10
    return Work("transcode-file", {"transcode-file": params}, {}, _media(random))


def export(random: Random, task_id: str) -> Work:
    kind = random.random()
    params: Json
    if kind < 0.5:
        custom: Json = {
            "url": f"https://bucket.s3.amazonaws.com/{task_id}.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Credential=LLMMB&X-Amz-Signature={hexadecimal(random, 16)}"
        }
        if kind < 0.35:
            custom["method"] = "PUT"
            custom["headers"] = {"x-amz-acl": "private", "Authorization": f"Bearer {pick(random, ACCOUNT_BEARERS)}"}
        params = {"custom": custom}
    else:
        params = {"ipfs": _ipfs_export(random)}
    return Work("export", {"export": params}, {"inputAssetId": uuid4(random)}, _media(random))


def export_data(random: Random, task_id: str) -> Work:
    if random.random() < 0.2:
        content: Json = {"n": [1, 2.5, None, {"deep": {"er": True}}], "data": "Hello, Wörld!"}
    else:
        content = {
            "domain": {"name": "Verifiable Video", "version": "1"},
            "message": {
                "video": f"ipfs://{make_cid(random, 'bafybei')}",
                "signer": f"0x{hexadecimal(random, 40)}",
                "attestations": [{"role": "creator", "address": f"0x{hexadecimal(random, 40)}"}],
            },
            "signature": f"0x{hexadecimal(random, 130)}",
            "primaryType": "VideoAttestation",
            "signatureType": "eip712",
        }
    params = {
        "id": f"0x{hexadecimal(random, 64)}",
        "ipfs": {"pinata": pick(random, ACCOUNT_PINATA)} if random.random() < 0.3 else {},
        "type": "attestation",
        "content": content,
    }
    return Work("export-data", {"exportData": params}, {}, Media(0, 0, 0))


def clip(random: Random, task_id: str) -> Work:
    playback_id, session_id = make_playback_id(random), uuid4(random)
    seconds = js_number(math.exp(random.gauss(3.4, 0.8)))
    start = 1_700_000_000_000 + int(random.random() * 9e10)
    params = {
        "url": f"https://storage.example.com/rec/{playback_id}/{session_id}/output.m3u8",
        "inputId": uuid4(random),
        "sessionId": session_id,
        "clipStrategy": {"endTime": start + int(seconds * 1000), "startTime": start, "playbackId": playback_id},
        "sourceObjectStoreId": uuid4(random),
    }
    requester = f"UNKNOWN-{playback_id}" if random.random() < 0.1 else hexadecimal(random, 64)
    media = Media(seconds, 720, int(seconds * 300_000))
    return Work("clip", {"clip": params}, {"requesterId": requester, "outputAssetId": uuid4(random)}, media)


def legacy_import(random: Random, task_id: str) -> Work:
    source = random.random()
    params: Json
    if source < 0.2:
        params = {"uploadedObjectKey": f"directUpload/{make_playback_id(random)}"}
    elif source < 0.3:
        session_id = uuid4(random)
        params = {
            "url": f"https://cdn.example.com/recordings/{session_id}/source.mp4",
            "recordedSessionId": session_id,
        }
    else:
        params = {"url": f"https://user:pa55@origin.example.com/old/{task_id}.mp4"}
        if source < 0.4:
            params["encryption"] = {"encryptedKey": f"IMPORTKEY{hexadecimal(random, 8)}"}
    links = {"outputAssetId": uuid4(random)}
    return Work("import", {"import": params}, links, _media(random), is_direct_upload=source < 0.2)


def legacy_transcode(random: Random, task_id: str) -> Work:
    links = {"inputAssetId": uuid4(random), "outputAssetId": uuid4(random)}
    return Work("transcode", {"transcode": {"profile": pick(random, PROFILES)}}, links, _media(random))


def unknown(random: Random, task_id: str) -> Work:
    """A type that no schema names, its params null."""
    return Work("delete", None, {"inputAssetId": uuid4(random)}, Media(0, 0, 0))


def _profiles(random: Random) -> list[Json] | None:
    """None: the server's default ladder."""
    drawn = random.random()
    return None if drawn < 0.5 else [] if drawn < 0.5 + ODD_SHARE else list(PROFILES[: 1 + int(drawn * 11) % 4])


def _ipfs_export(random: Random) -> Json:
    drawn = random.random()
    if drawn < 0.35:
        return {}
    if drawn < 0.6:
        return {"pinata": pick(random, ACCOUNT_PINATA)}
    if drawn < 0.8:
        return {"nftMetadataTemplate": "file"}
    return {
        "nftMetadata": {"name": "N", "attributes": [{"value": 1.5, "trait_type": "x"}]},
        "nftMetadataTemplate": "player",
    }


def _media(random: Random) -> Media:
    """Durations have a long tail: half are below three minutes, one in a thousand lasts for hours."""
    seconds = js_number(min(math.exp(random.gauss(5.2, 1.5)), 6 * 3600))
    if random.random() < 0.02:
        return Media(seconds, 0, int(seconds * 16_000))
    height = pick(random, HEIGHTS)
    return Media(seconds, height, int(seconds * LADDER[height][1] / 8 * (0.6 + 0.8 * random.random())))


def make_playback_id(random: Random) -> str:
    return f"{hexadecimal(random, 4)}{pick(random, ('jm', 'qz', 'xk', 'tg'))}{hexadecimal(random, 10)}"


def make_cid(random: Random, prefix: str) -> str:
    bits = random.getrandbits(260)
    return prefix + "".join(["abcdefghijklmnopqrstuvwxyz234567"[bits >> shift & 31] for shift in range(0, 260, 5)])
