"""The schemas of messages."""

from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from ..llm.untrusted_json import is_serializable
from ..web.fields import IdField, Output, Text, Time
from ..web.pagination import PositionPageSchema
from .models import ROLES, STATUSES
from .parts import (
    MAX_CONTENT_BYTES,
    MAX_PARTS,
    PART_TYPES,
    ContentField,
    attachment_ids_field,
    attachment_ids_of,
    refuse_attachments,
)

MAX_TOOL_CALLS = 128  # of a message that a client appends, and all of them together:
MAX_TOOL_CALLS_BYTES = 256 * 1024
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


class CreateToolCallSchema(Schema):
    id = Text(longest=255, metadata={"example": "call_1"})
    name = Text(longest=255, metadata={"example": "get_weather"})
    arguments = Text(
        shortest=0,
        max_bytes=MAX_TOOL_CALLS_BYTES,
        metadata={
            "example": '{"city": "Lisbon"}',
            "description": "The text of a JSON object. Empty text stands for `{}`.",
        },
    )

    @post_load
    def require_object(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        arguments = values["arguments"] if values["arguments"].strip() else "{}"
        try:
            value = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            value = None
        if not (isinstance(value, dict) and is_serializable(value)):
            raise ValidationError({"arguments": ["Not the text of a JSON object."]})
        return {**values, "arguments": arguments}


class CreateMessageSchema(Schema):
    conversation_id = IdField()
    role = fields.String(required=True, validate=validate.OneOf(ROLES), metadata={"example": "user"})
    content = ContentField(
        shortest=0,
        max_bytes=MAX_CONTENT_BYTES,
        metadata={
            "example": "Where should I eat?",
            "description": "Up to 1 MiB of text in UTF-8, or a list of parts: texts, and for the role `user` also "
            f"attachments, in order, {MAX_PARTS} at most. Text may be empty in a message of the role `tool`, and in "
            "one with `tool_calls` or attachments; otherwise it has at least 1 character.",
        },
    )
    attachment_ids = attachment_ids_field()
    parent_id = IdField(
        required=False,
        allow_none=True,
        metadata={
            "description": "The message that this one replies to. Default: the last one of the active path. An earlier"
            " one starts a new branch, which becomes the active path. null makes it a first message."
        },
    )
    tool_calls = fields.List(
        fields.Nested(CreateToolCallSchema),
        validate=validate.Length(1, MAX_TOOL_CALLS),
        metadata={
            "description": "Only for the role `assistant`: tool calls that the model has requested, at most 256 KiB "
            "together. Their ids must differ."
        },
    )
    tool_call_id = Text(
        longest=255,
        required=False,
        metadata={
            "description": "Required for the role `tool`, and only allowed for it: the id of the tool call that "
            "this is the result of. A message on the path to this one must have that call."
        },
    )

    @validates_schema
    def require_what_the_role_has(self, values: dict[str, Any], **kwargs: Any) -> None:
        role = values.get("role")
        if "tool_call_id" in values and role != "tool":
            raise ValidationError({"tool_call_id": ["Only allowed for the role `tool`."]})
        if "tool_call_id" not in values and role == "tool":
            raise ValidationError(
                {
                    "tool_call_id": [
                        "Required for the role `tool`: the id of the call that this is the result of."
                    ]
                }
            )
        if "tool_calls" in values and role != "assistant":
            raise ValidationError({"tool_calls": ["Only allowed for the role `assistant`."]})
        may_have_attachments = "attachment_ids" in values or isinstance(values.get("content"), list)
        attachment_ids = attachment_ids_of(values) if may_have_attachments else []
        if attachment_ids and role != "user":
            raise ValidationError(
                {"attachment_ids": ["Only messages of the role `user` are sent with attachments."]}
            )
        is_empty = not values.get("content") and not attachment_ids
        if is_empty and role != "tool" and "tool_calls" not in values:
            raise ValidationError(
                {
                    "content": [
                        "Must not be empty, except for the role `tool`, or with `tool_calls` or attachments."
                    ]
                }
            )
        if attachment_ids:
            refuse_attachments(values)

    @validates_schema
    def refuse_too_many_calls(self, values: dict[str, Any], **kwargs: Any) -> None:
        calls = values.get("tool_calls", [])
        if len({call["id"] for call in calls}) < len(calls):
            raise ValidationError({"tool_calls": ["Two calls have the same id."]})
        if len(orjson.dumps(calls)) > MAX_TOOL_CALLS_BYTES:
            raise ValidationError({"tool_calls": [f"Longer than {MAX_TOOL_CALLS_BYTES} bytes together."]})


class ToolCallSchema(Output):
    id = fields.String(metadata={"example": "call_1"})
    name = fields.String(metadata={"example": "get_weather"})
    arguments = fields.String(
        metadata={
            "example": '{"city": "Lisbon"}',
            "description": "JSON as the model wrote it; it may be malformed.",
        }
    )


class SourceSchema(Output):
    url = fields.String(
        metadata={"example": "https://www.example.org/lisbon", "description": "http or https."}
    )
    title = fields.String(allow_none=True, metadata={"example": "Where to eat in Lisbon"})
    places = fields.List(
        fields.List(fields.Integer(), validate=validate.Length(equal=2)),
        metadata={
            "example": [[33, 36]],
            "description": "Where the content refers to it: pairs of start and end, in Unicode characters.",
        },
    )


class PartSchema(Output):
    may_lack = ("text", "attachment_id")

    type = fields.String(validate=validate.OneOf(PART_TYPES), metadata={"example": "text"})
    text = fields.String(
        metadata={"example": "What is this?", "description": "Only in parts of the type `text`."}
    )
    attachment_id = IdField(metadata={"description": "Only in parts of the type `attachment`."})


class MessageSchema(Output):
    may_lack = ("tool_calls", "tool_call_id", "sources", "parts", "erased")

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
    sources = fields.List(
        fields.Nested(SourceSchema),
        metadata={
            "description": "The sources of a reply, as the provider named them; only present if there are any."
        },
    )
    parts = fields.List(
        fields.Nested(PartSchema),
        metadata={
            "description": "The content as a list: texts and attachments in order. Only present if it was sent as a "
            "list; `content` has its texts."
        },
    )
    erased = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={
            "example": {"0": "text"},
            "description": "What was erased from it below `/v1`: the kinds of the parts, by their index. Only present "
            "if something was erased. A message of which nothing is left has an empty `content`, stays in the "
            "tree, and is not sent to models.",
        },
    )
    created_at = Time()
