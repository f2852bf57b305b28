"""The OpenAPI descriptions and examples of exports and imports."""

from typing import Any

from .upload import PART

ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"
_MESSAGE_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6072"
_TIME = "2026-11-23T09:30:00.123456Z"
EXAMPLE = "\n".join((
    f'{{"type":"export","version":1,"exported_at":"{_TIME}"}}',
    f'{{"type":"conversation","id":"{ID}","title":"Trip to Lisbon","archived":false,"pinned":false,'
    f'"active_leaf_id":"{_MESSAGE_ID}","last_position":1,"created_at":"{_TIME}","updated_at":"{_TIME}"}}',
    f'{{"type":"message","id":"{_MESSAGE_ID}","conversation_id":"{ID}","parent_id":null,"position":1,"role":"user",'
    f'"content":"Where should I eat?","status":"completed","created_at":"{_TIME}"}}',
    '{"type":"end","conversations":1,"messages":1}',
    "",
))  # fmt: skip
_NDJSON = {"schema": {"type": "string"}, "example": EXAMPLE}
_BINARY = {
    "schema": {"type": "string", "format": "binary"},
    "example": "(the zip file from ChatGPT or Claude)",
}


def _download(description: str, content: dict[str, Any], extension: str) -> dict[str, Any]:
    """The answer of an export."""
    disposition = {
        "description": "The suggested file name.",
        "schema": {"type": "string"},
        "example": f'attachment; filename="chat-export-2026-11-23.{extension}"',
    }
    return {
        "responses": {
            "200": {
                "description": description,
                "content": content,
                "headers": {"Content-Disposition": disposition},
            }
        }
    }


EXPORT = _download(
    "One JSON object per line, with its kind in `type`. The last line has the type `end`; if it is missing, the "
    "download was cut off.",
    {"application/x-ndjson": _NDJSON},
    "ndjson",
)
EXPORT_ZIP = _download(
    "A zip. One that was cut off has no directory.",
    {
        "application/zip": {
            "schema": {"type": "string", "format": "binary"},
            "example": "(a zip with export.ndjson, files/ and missing-files.ndjson)",
        }
    },
    "zip",
)
IMPORT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An export from this service, or from ChatGPT or Claude (`conversations.json`, or the zip), "
        "Open WebUI or LibreChat. "
        "The format is detected. A JSON file may also be the body itself, as `application/json`.",
        "content": {
            # first: many generators take only the first, and none can go wrong with this one
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [PART],
                    "additionalProperties": False,
                    "properties": {PART: {"type": "string", "format": "binary"}},
                },
                "example": {PART: EXAMPLE},
            },
            "application/x-ndjson": _NDJSON,
            "application/zip": _BINARY,
        },
    }
}
