"""The schemas of messages."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..web.fields import IdField, Output, Text, Time
from ..web.pagination import PositionPageSchema
from .models import ROLES, STATUSES

MAX_CONTENT_BYTES = 1024 * 1024
ACTIVE, ALL = BRANCHES = ("active", "all")


class ListMessagesSchema(PositionPageSchema):
    branch = fields.String(
        load_default=ACTIVE,
        validate=validate.OneOf(BRANCHES),
        metadata={
            "description": "`active`: the messages on the active path. `all`: all branches, a tree by `parent_id`."
        },
    )
    around = IdField(
        required=False,
        metadata={"description": "The page around the message with this id: half before it, half after it."},
    )

    @validates_schema
    def refuse_two_cursors(self, values: dict[str, Any], **kwargs: Any) -> None:
        if "around" in values and ("after" in values or "before" in values):
            raise ValidationError({"around": ["Use only one of `around`, `after` and `before`."]})


class CreateMessageSchema(Schema):
    conversation_id = IdField()
    role = fields.String(required=True, validate=validate.OneOf(ROLES), metadata={"example": "user"})
    content = Text(
        max_bytes=MAX_CONTENT_BYTES,
        metadata={"example": "Where should I eat?", "description": "1 character to 1 MiB of text in UTF-8."},
    )
    parent_id = IdField(
        required=False,
        allow_none=True,
        metadata={
            "description": "The message that this one replies to. Default: the last one of the active path. An earlier"
            " one starts a new branch, which becomes the active path. null makes it a first message."
        },
    )
    tool_call_id = Text(
        longest=255,
        required=False,
        metadata={
            "description": "Only for the role `tool`: the id of the tool call that this is the result of."
        },
    )

    @validates_schema
    def refuse_call_of_others(self, values: dict[str, Any], **kwargs: Any) -> None:
        if "tool_call_id" in values and values.get("role") != "tool":
            raise ValidationError({"tool_call_id": ["Only allowed for the role `tool`."]})


class ToolCallSchema(Output):
    id = fields.String(metadata={"example": "call_1"})
    name = fields.String(metadata={"example": "get_weather"})
    arguments = fields.String(
        metadata={
            "example": '{"city": "Lisbon"}',
            "description": "JSON as the model wrote it; it may be malformed.",
        }
    )


class MessageSchema(Output):
    id = IdField()
    conversation_id = IdField()
    parent_id = IdField(
        allow_none=True,
        metadata={"description": "The message that this one replies to; null for a first message."},
    )
    position = fields.Integer(
        metadata={
            "example": 1,
            "description": "1, 2, 3 …: the order in which the conversation's messages were accepted, across all"
            " branches. Positions of deleted messages are not reused.",
        }
    )
    role = fields.String(validate=validate.OneOf(ROLES), metadata={"example": "user"})
    content = fields.String(metadata={"example": "Where should I eat?"})
    status = fields.String(
        validate=validate.OneOf(STATUSES),
        metadata={
            "example": "completed",
            "description": "`incomplete` or `cancelled` for a provider's reply that was cut off or cancelled.",
        },
    )
    tool_calls = fields.List(
        fields.Nested(ToolCallSchema),
        metadata={"description": "Tool calls that the model requests; only present if there are any."},
    )
    tool_call_id = fields.String(
        metadata={"description": "The tool call that this is the result of; only present in tool messages."}
    )
    created_at = Time()
