"""The shapes of messages, in and out."""

from marshmallow import Schema, fields, validate

from ..fields import IdField, Output, Text, Time
from .models import ROLES

MAX_CONTENT_BYTES = 1024 * 1024


class CreateMessageSchema(Schema):
    conversation_id = IdField()
    role = fields.String(required=True, validate=validate.OneOf(ROLES), metadata={"example": "user"})
    content = Text(
        max_bytes=MAX_CONTENT_BYTES,
        metadata={"example": "Where should I eat?", "description": "1 character to 1 MiB of text in UTF-8."},
    )


class MessageSchema(Output):
    id = IdField()
    conversation_id = IdField()
    position = fields.Integer(
        metadata={
            "example": 1,
            "description": "1, 2, 3 … without gaps: the order in which messages were accepted.",
        }
    )
    role = fields.String(validate=validate.OneOf(ROLES), metadata={"example": "user"})
    content = fields.String(metadata={"example": "Where should I eat?"})
    created_at = Time()
