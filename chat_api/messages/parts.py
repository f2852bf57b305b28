"""Content as a list of texts and attachments: its fields, which every body with content has."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..web.fields import STORABLE_PATTERN, UUID_PATTERN, IdField, Text

MAX_CONTENT_BYTES = 1024 * 1024
MAX_PARTS = 100
MAX_ATTACHMENT_IDS = 50  # of one message
BETWEEN_TEXTS = "\n\n"
TEXT, ATTACHMENT = PART_TYPES = ("text", "attachment")

Part = Mapping[str, str]


class CreatePartSchema(Schema):
    type = fields.String(required=True, validate=validate.OneOf(PART_TYPES), metadata={"example": "text"})
    text = Text(
        required=False,
        max_bytes=MAX_CONTENT_BYTES,
        metadata={
            "example": "What is this?",
            "description": "Required for the type `text`, and only for it.",
        },
    )
    attachment_id = IdField(
        required=False,
        metadata={
            "description": "Required for the type `attachment`, and only for it: an upload that belongs to no message."
        },
    )

    @validates_schema
    def require_what_the_type_has(self, values: dict[str, Any], **kwargs: Any) -> None:
        kind = values.get("type")
        for name, its_kind in (("text", TEXT), ("attachment_id", ATTACHMENT)):
            if kind in PART_TYPES and (name in values) != (kind == its_kind):
                raise ValidationError({name: [f"Required for the type `{its_kind}`, and only for it."]})


_PARTS = fields.List(fields.Nested(CreatePartSchema), validate=validate.Length(1, MAX_PARTS))


# for the API document
_PART_IN_DOCUMENT = {
    "oneOf": [
        {
            "type": "object",
            "required": ["type", name],
            "properties": {"type": {"type": "string", "const": kind}, name: value},
            "additionalProperties": False,
        }
        for kind, name, value in (
            (TEXT, "text", {"type": "string", "minLength": 1, "pattern": STORABLE_PATTERN}),
            (ATTACHMENT, "attachment_id", {"type": "string", "format": "uuid", "pattern": UUID_PATTERN}),
        )
    ]
}


class ContentField(Text):
    """Text, or a list of parts, whose texts are together as long as a text may be."""

    def __init__(self, *, metadata: dict[str, Any], **kwargs: Any) -> None:
        parts = {
            "type": ["string", "array"],
            "items": _PART_IN_DOCUMENT,
            "minItems": 1,
            "maxItems": MAX_PARTS,
        }
        super().__init__(metadata=parts | metadata, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, list):
            return super()._deserialize(value, attr, data, **kwargs)
        parts: Any = _PARTS.deserialize(value, attr, data)
        super()._deserialize(text_of(parts), attr, data, **kwargs)
        ids = _ids_of(parts)
        if len(set(ids)) < len(ids):
            raise ValidationError("Must not name an attachment twice.")
        return parts


def attachment_ids_field() -> fields.List:
    """The field that names uploads which become attachments of the message."""
    return fields.List(
        IdField(),
        validate=validate.Length(1, MAX_ATTACHMENT_IDS),
        metadata={
            "uniqueItems": True,
            "description": "Uploads that belong to no message yet; they become this message's attachments, in this "
            "order. Those that `content` names need not be repeated.",
        },
    )


def refuse_attachments(values: Mapping[str, Any]) -> None:
    """Raise ValidationError where the attachments of a body can't be those of a user's message."""
    ids = values.get("attachment_ids", [])
    if len(set(ids)) < len(ids):
        raise ValidationError({"attachment_ids": ["Must not name an attachment twice."]})
    if len(attachment_ids_of(values)) > MAX_ATTACHMENT_IDS:
        raise ValidationError(
            {"attachment_ids": [f"More than {MAX_ATTACHMENT_IDS} attachments of one message."]}
        )


def attachment_ids_of(values: Mapping[str, Any]) -> list[str]:
    """The uploads that a body names: those of its content in their order, then the others."""
    content = values.get("content")
    in_content = _ids_of(content) if isinstance(content, list) else []
    return list(dict.fromkeys([*in_content, *values.get("attachment_ids", ())]))


def split_content(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a body with `content` as text; where that was a list, with `parts`, if they say more."""
    if "attachment_ids" not in values and not isinstance(values.get("content"), list):
        return values  # nearly always
    ids = attachment_ids_of(values)
    values = {name: value for name, value in values.items() if name != "attachment_ids"}
    if ids:
        values["attachment_ids"] = ids
    parts = values.get("content")
    if isinstance(parts, list):
        values = {**values, "content": text_of(parts)}
        if len(parts) > 1 or parts[0]["type"] != TEXT:
            values["parts"] = parts
    return values


def is_place_only(message: Mapping[str, Any]) -> bool:
    """Whether all that a message said was erased: it is only a place in the tree, shown as such and never sent."""
    return bool(message.get("erased")) and not message["content"] and not message.get("tool_calls")


def text_of(parts: Sequence[Part]) -> str:
    """The texts of a content."""
    return BETWEEN_TEXTS.join(part["text"] for part in parts if part["type"] == TEXT)


def encoded(parts: Sequence[Part]) -> str:
    """As they are stored."""
    return orjson.dumps(parts).decode()


def _ids_of(parts: Sequence[Part]) -> list[str]:
    return [part["attachment_id"] for part in parts if part["type"] == ATTACHMENT]
