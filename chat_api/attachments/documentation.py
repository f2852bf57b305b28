"""The OpenAPI descriptions of uploads and downloads."""

from typing import Any

from ..web.fields import UUID_PATTERN
from .uploads import PART

_BINARY = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of the file)"}

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [PART],
                    "additionalProperties": False,
                    "properties": {
                        PART: {"type": "string", "format": "binary", "minLength": 1},
                        "message_id": {
                            "type": "string",
                            "format": "uuid",
                            "pattern": UUID_PATTERN,
                            "description": "The message that the file belongs to. Without it the upload is kept "
                            "for a day, until a message names it in `attachment_ids`.",
                        },
                    },
                },
                "example": {PART: "(the bytes of the file)"},
            },
        },
    }
}
_HEADERS = {
    "Content-Disposition": {
        "description": "`attachment`, with the name of the file.",
        "schema": {"type": "string"},
        "example": 'attachment; filename="receipt.png"',
    },
    "ETag": {
        "description": "The hash of the content.",
        "schema": {"type": "string"},
        "example": '"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
    },
    "Accept-Ranges": {"schema": {"type": "string"}, "example": "bytes"},
}
RANGE = {
    "name": "Range",
    "description": "The part of the content to send, such as `bytes=0-999`, to continue a download. A range of "
    "several parts that are not adjacent gets the whole content.",
    "example": "bytes=0-999",
}
TEXT: dict[str, Any] = {
    "responses": {
        "200": {
            "description": "The text.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "The tenant pays the rent in advance.",
                }
            },
            "headers": {
                "ETag": {
                    "description": "The version of the text.",
                    "schema": {"type": "string"},
                    "example": '"9a0364b9e99bb480dd25e1f0"',
                },
                "Document-Text": {
                    "description": "`incomplete` if the document has more text than is stored.",
                    "schema": {"type": "string"},
                    "example": "incomplete",
                },
            },
        },
        "304": {"description": "The text still has the ETag that If-None-Match names."},
    }
}
CONTENT: dict[str, Any] = {
    "responses": {
        "200": {"description": "The bytes of the file.", "content": {"*/*": _BINARY}, "headers": _HEADERS},
        "206": {
            "description": "The bytes that the header `Range` names.",
            "content": {"*/*": _BINARY},
            "headers": _HEADERS
            | {"Content-Range": {"schema": {"type": "string"}, "example": "bytes 0-999/48213"}},
        },
        "304": {"description": "The content still has the ETag that If-None-Match names."},
    }
}
