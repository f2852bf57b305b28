"""The schemas of the events of a stream: one for each, distinguished by `type`."""

from marshmallow import fields, validate

from ..messages.schemas import MessageSchema, ToolCallSchema
from ..web.fields import IdField, Output
from .schemas import CompletionProblemSchema, CompletionSchema


def _event_type(name: str) -> fields.Constant:
    return fields.Constant(name)


class StartedMessageSchema(MessageSchema):
    """A message as a stream begins: the one that is replied to, or the still empty reply."""

    position = fields.Integer(allow_none=True, metadata={"example": 1, "description": "null for the reply."})
    status = fields.String(
        validate=validate.OneOf(["in_progress", "completed", "incomplete", "cancelled"]),
        metadata={"example": "completed"},
    )


class StartedEventSchema(Output):
    """The first event of a stream: the completion as it started."""

    type = _event_type("completion.started")
    completion = fields.Nested(CompletionSchema)
    messages = fields.List(
        fields.Nested(StartedMessageSchema),
        metadata={"description": "The message that it replies to, and the reply, which is still empty."},
    )


class DeltaEventSchema(Output):
    """The next part of the text."""

    type = _event_type("completion.delta")
    delta = fields.String(metadata={"example": "By the"})


class ReasoningEventSchema(Output):
    """The next part of the model's reasoning."""

    type = _event_type("completion.reasoning")
    delta = fields.String(metadata={"example": "Somebody who likes fish …"})


class ToolCallEventSchema(ToolCallSchema):
    """A complete tool call."""

    type = _event_type("completion.tool_call")


class SourceEventSchema(Output):
    """A source that the reply cites; its places in the text are in the last event."""

    type = _event_type("completion.source")
    url = fields.String(metadata={"example": "https://www.example.org/lisbon"})
    title = fields.String(allow_none=True, metadata={"example": "Where to eat in Lisbon"})


class AttachmentEventSchema(Output):
    """An image, audio or video that the model has made. It is stored, so its content can be downloaded."""

    type = _event_type("completion.attachment")
    id = IdField(
        metadata={
            "description": "The id of the attachment, which belongs to the reply's message once that is stored."
        }
    )
    file_type = fields.String(metadata={"example": "image/png", "description": "What the content is."})
    file_name = fields.String(metadata={"example": "image-1.png"})
    size_bytes = fields.Integer(metadata={"example": 48213})
    sha256 = fields.String(
        metadata={"example": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
    )
    file_path = fields.String(
        metadata={
            "example": "/chat/attachments/019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071/content",
            "description": "The path of the content in this API.",
        }
    )


class CompletedEventSchema(Output):
    """The last event of a completion that was completed."""

    type = _event_type("completion.completed")
    completion = fields.Nested(CompletionSchema)


class IncompleteEventSchema(Output):
    """The last event of a completion that was cut off."""

    may_lack = ("problem",)

    type = _event_type("completion.incomplete")
    completion = fields.Nested(CompletionSchema)
    problem = fields.Nested(CompletionProblemSchema)


class FailedEventSchema(Output):
    """The last event of a completion that failed."""

    type = _event_type("completion.failed")
    completion = fields.Nested(CompletionSchema)
    problem = fields.Nested(CompletionProblemSchema)


class CancelledEventSchema(Output):
    """The last event of a completion that was cancelled."""

    type = _event_type("completion.cancelled")
    completion = fields.Nested(CompletionSchema)


class CompletionEventSchema(Output):
    """The `data` of an event of a completion; `type` is the name of the event."""

    one_of = (StartedEventSchema, DeltaEventSchema, ReasoningEventSchema, ToolCallEventSchema, SourceEventSchema,
              AttachmentEventSchema,
              CompletedEventSchema, IncompleteEventSchema, FailedEventSchema, CancelledEventSchema)  # fmt: skip
