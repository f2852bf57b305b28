"""The schemas of the events of a stream: one for each, distinguished by `type`."""

from marshmallow import fields, validate

from ..messages.schemas import MessageSchema, ToolCallSchema
from ..web.fields import Output
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
        metadata={"description": "The message that it replies to, and the reply, still empty."},
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
    """Something that the reply refers to; where in the text it does so is in the last event."""

    type = _event_type("completion.source")
    url = fields.String(metadata={"example": "https://www.example.org/lisbon"})
    title = fields.String(allow_none=True, metadata={"example": "Where to eat in Lisbon"})


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
    """What the `data` of an event of a completion are; `type` is the name of the event."""

    one_of = (StartedEventSchema, DeltaEventSchema, ReasoningEventSchema, ToolCallEventSchema, SourceEventSchema,
              CompletedEventSchema, IncompleteEventSchema, FailedEventSchema, CancelledEventSchema)  # fmt: skip
