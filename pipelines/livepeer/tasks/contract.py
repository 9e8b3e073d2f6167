"""What the API may send of a task: written here once, for every type of task that it has or had.

From this come the type gate and DuckDB's types. A name's kind says what may stand there; `null` and absence are always
allowed. JSON stays as it is: free-form content, and fields that are sometimes text, sometimes an object. A list holds
any number of what it shows once.
"""

from enum import Enum
from typing import TypeAlias


class Kind(Enum):
    """The scalars; the value is the DuckDB type that holds them."""

    TEXT = "VARCHAR"
    INTEGER = "BIGINT"  # whole, within 64 bits
    NUMBER = "DOUBLE"  # numbers pass through JavaScript doubles on the server, so a double holds them
    BOOLEAN = "BOOLEAN"
    MILLIS = "INT64"  # epoch milliseconds between the years 1 and 9999; INT64 is DuckDB's other name for BIGINT
    JSON = "JSON"


Shape: TypeAlias = Kind | list["Shape"] | dict[str, "Shape"]

TEXT, INTEGER, NUMBER, BOOLEAN, MILLIS, JSON = Kind

PROFILE: Shape = {
    "name": TEXT,
    "width": INTEGER,
    "height": INTEGER,
    "bitrate": INTEGER,
    "fps": NUMBER,
    "fpsDen": INTEGER,
    "quality": INTEGER,
    "gop": JSON,  # text such as "2.0" or "intra"; older documentation shows a number
    "profile": TEXT,
    "encoder": TEXT,
}

TRACK: Shape = {
    "type": TEXT,
    "codec": TEXT,
    "startTime": NUMBER,
    "duration": NUMBER,
    "bitrate": NUMBER,
    "width": INTEGER,
    "height": INTEGER,
    "pixelFormat": TEXT,
    "fps": NUMBER,
    "channels": INTEGER,
    "sampleRate": INTEGER,
    "bitDepth": INTEGER,
}

IPFS_FILE: dict[str, Shape] = {"cid": TEXT, "url": TEXT, "gatewayUrl": TEXT}

ASSET: Shape = {
    "id": TEXT,
    "type": TEXT,
    "name": TEXT,
    "playbackId": TEXT,
    "userId": TEXT,
    "projectId": TEXT,
    "createdAt": MILLIS,
    "createdByTokenName": TEXT,
    "creatorId": JSON,  # text or {type, value}
    "staticMp4": BOOLEAN,
    "playbackRecordingId": TEXT,
    "playbackUrl": TEXT,
    "downloadUrl": TEXT,
    "playbackPolicy": {
        "type": TEXT,
        "webhookId": TEXT,
        "webhookContext": JSON,
        "refreshInterval": NUMBER,
        "allowedOrigins": [TEXT],
    },
    "source": {
        "type": TEXT,
        "url": TEXT,
        "gatewayUrl": TEXT,
        "encryption": JSON,
        "sourceId": TEXT,
        "sessionId": TEXT,
        "playbackId": TEXT,
        "requesterId": TEXT,
        "assetId": TEXT,
    },
    "profiles": [PROFILE],
    "storage": {
        "ipfs": {
            "spec": {"nftMetadataTemplate": TEXT, "nftMetadata": JSON},
            **IPFS_FILE,
            "nftMetadata": IPFS_FILE,
            "updatedAt": MILLIS,
        },
        "status": {
            "phase": TEXT,
            "progress": NUMBER,
            "errorMessage": TEXT,
            "tasks": {"pending": TEXT, "last": TEXT, "failed": TEXT},
        },
    },
    "status": {"phase": TEXT, "updatedAt": MILLIS, "progress": NUMBER, "errorMessage": TEXT},
    "size": INTEGER,
    "hash": [{"hash": TEXT, "algorithm": TEXT}],
    "videoSpec": {"format": TEXT, "duration": NUMBER, "bitrate": NUMBER, "tracks": [TRACK]},
    "files": [{"type": TEXT, "path": TEXT, "spec": JSON}],
}

ASSET_OUTPUT: Shape = {"assetSpec": ASSET, "videoFilePath": TEXT, "metadataFilePath": TEXT}

# Uploads were called imports at first.
UPLOAD_SOURCE: dict[str, Shape] = {
    "url": TEXT,
    "uploadedObjectKey": TEXT,
    "recordedSessionId": TEXT,
    "encryption": JSON,
}

# pinata holds credentials: its shape is kept, its values are redacted.
IPFS_EXPORT: Shape = {"pinata": JSON, "nftMetadataTemplate": TEXT, "nftMetadata": JSON}

TASK: dict[str, Shape] = {
    "id": TEXT,
    "type": TEXT,
    "userId": TEXT,
    "createdAt": MILLIS,
    "scheduledAt": MILLIS,
    "projectId": TEXT,
    "requesterId": TEXT,
    "inputAssetId": TEXT,
    "outputAssetId": TEXT,
    "deleted": BOOLEAN,
    "status": {
        "phase": TEXT,
        "updatedAt": MILLIS,
        "progress": NUMBER,
        "retries": INTEGER,
        "errorMessage": TEXT,
        "step": TEXT,
    },
    "params": {
        "upload": {
            **UPLOAD_SOURCE,
            "c2pa": BOOLEAN,
            "profiles": [PROFILE],
            "targetSegmentSizeSecs": NUMBER,
            "thumbnails": BOOLEAN,
        },
        "import": UPLOAD_SOURCE,
        "clip": {
            "url": TEXT,
            "inputId": TEXT,
            "sessionId": TEXT,
            "clipStrategy": {"startTime": MILLIS, "endTime": MILLIS, "playbackId": TEXT},
            "sourceObjectStoreId": TEXT,
            "catalystPipelineStrategy": TEXT,
        },
        "transcode-file": {
            "input": {"url": TEXT},
            "storage": {"url": TEXT},
            "outputs": {"hls": {"path": TEXT}, "mp4": {"path": TEXT}},
            "profiles": [PROFILE],
            "targetSegmentSizeSecs": NUMBER,
            "creatorId": JSON,  # text or {type, value}
            "c2pa": BOOLEAN,
        },
        "transcode": {"profile": PROFILE},
        "export": {"custom": {"url": TEXT, "method": TEXT, "headers": JSON}, "ipfs": IPFS_EXPORT},
        "exportData": {"content": JSON, "ipfs": IPFS_EXPORT, "type": TEXT, "id": TEXT},
    },
    "output": {
        "upload": ASSET_OUTPUT,
        "import": ASSET_OUTPUT,
        "clip": ASSET_OUTPUT,
        "transcode": {"asset": ASSET_OUTPUT},
        "transcodeFile": {
            "request_id": TEXT,
            "hls": {"path": TEXT},
            "mp4": [{"path": TEXT}],
            "input_video": {"size": INTEGER, "duration": NUMBER},
        },
        "export": {
            "ipfs": {
                "videoFileCid": TEXT,
                "videoFileUrl": TEXT,
                "videoFileGatewayUrl": TEXT,
                "nftMetadataCid": TEXT,
                "nftMetadataUrl": TEXT,
                "nftMetadataGatewayUrl": TEXT,
            }
        },
        "exportData": {"ipfs": {"cid": TEXT}},
    },
}
