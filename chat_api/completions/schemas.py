"""The shapes of completions, in and out. What a caller may say to a provider is listed here, and nothing else."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate

from ..fields import Flag, IdField, Output, Text, Time, WholeNumber
from ..messages.schemas import MAX_CONTENT_BYTES, MessageSchema
from .models import STATUSES

MAX_TOOLS_BYTES = 256 * 1024
_NAME = validate.Regexp(r"^[A-Za-z0-9_.-]{1,64}\Z")


def _number(smallest: float, largest: float, example: float) -> fields.Float:
    return StrictFloat(
        validate=validate.Range(smallest, largest), metadata={"example": example, "type": "number"}
    )


class StrictFloat(fields.Float):
    """A number; not a text that reads like one."""

    def _validated(self, value: Any) -> float:
        if isinstance(value, str | bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class FunctionSchema(Schema):
    name = fields.String(required=True, validate=_NAME, metadata={"example": "get_weather"})
    description = Text(required=False, longest=4096)
    parameters = fields.Dict(metadata={"description": "JSON Schema of the arguments."})
    strict = Flag()


class ToolSchema(Schema):
    type = fields.String(required=True, validate=validate.Equal("function"), metadata={"enum": ["function"]})
    function = fields.Nested(FunctionSchema, required=True)


class Stop(fields.Field):
    """One text, or up to four."""

    def __init__(self, **kwargs: Any) -> None:
        text = {"type": "string", "minLength": 1, "maxLength": 256}
        shape = {"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": 4}]}
        super().__init__(metadata={**shape, "example": ["\n\n"]}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not (
            isinstance(texts, list)
            and 1 <= len(texts) <= 4
            and all(isinstance(text, str) and 1 <= len(text) <= 256 for text in texts)
        ):
            raise ValidationError("One text, or a list of one to four, each of 1 to 256 characters.")
        return texts


class ToolChoice(fields.Field):
    """`auto`, `none`, `required`, or the one function to call."""

    def __init__(self, **kwargs: Any) -> None:
        named = {"type": "object", "properties": {"type": {"type": "string"}, "function": {"type": "object"}}}
        words = {"type": "string", "enum": ["auto", "none", "required"]}
        super().__init__(metadata={"anyOf": [words, named], "example": "auto"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if value in ("auto", "none", "required"):
            return value
        if isinstance(value, dict) and set(value) == {"type", "function"} and value["type"] == "function":
            function = value["function"]
            if isinstance(function, dict) and set(function) == {"name"} and isinstance(function["name"], str):
                _NAME(function["name"])
                return value
        raise ValidationError(
            '"auto", "none", "required", or {"type": "function", "function": {"name": "…"}}.'
        )


class ParametersSchema(Schema):
    """What may be said to the provider about the reply; under OpenAI's names, translated for other protocols."""

    class Meta:
        unknown = RAISE

    temperature = _number(0, 2, 0.7)
    top_p = _number(0, 1, 0.9)
    max_tokens = WholeNumber(validate=validate.Range(1, 10_000_000), metadata={"example": 1000})
    stop = Stop()
    presence_penalty = _number(-2, 2, 0)
    frequency_penalty = _number(-2, 2, 0)
    seed = WholeNumber(validate=validate.Range(-(2**53), 2**53), metadata={"example": 7})
    reasoning_effort = fields.String(
        validate=validate.OneOf(["none", "minimal", "low", "medium", "high", "xhigh"]),
        metadata={"example": "low"},
    )
    response_format = fields.Dict(
        metadata={"example": {"type": "json_object"}, "description": "As OpenAI has it."}
    )
    tools = fields.List(fields.Nested(ToolSchema), validate=validate.Length(1, 128))
    tool_choice = ToolChoice()
    parallel_tool_calls = Flag()

    @post_load
    def refuse_too_much(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        for name in ("tools", "response_format"):
            if len(str(values.get(name, ""))) > MAX_TOOLS_BYTES:
                raise ValidationError({name: [f"Longer than {MAX_TOOLS_BYTES} bytes."]})
        return values


class CreateCompletionSchema(Schema):
    conversation_id = IdField()
    provider_id = IdField()
    model = Text(
        longest=255,
        required=False,
        load_default=None,
        metadata={
            "example": "gpt-5-mini",
            "description": "Without it the `default_model` of your config for the provider.",
        },
    )
    content = Text(
        max_bytes=MAX_CONTENT_BYTES,
        required=False,
        load_default=None,
        metadata={
            "example": "Where should I eat?",
            "description": "The user's next message; it is stored before the provider is called. Without it the last "
            "message is answered.",
        },
    )
    parent_id = IdField(
        required=False,
        load_default=None,
        metadata={"description": "Answer this message instead of the last one."},
    )
    stream = Flag(
        load_default=False, metadata={"example": False, "description": "Answer with server-sent events."}
    )
    parameters = fields.Nested(ParametersSchema, load_default=dict)
    on_disconnect = fields.String(
        load_default="continue",
        validate=validate.OneOf(["continue", "cancel"]),
        metadata={
            "example": "continue",
            "description": "What becomes of the reply when the client of this request leaves before its end.",
        },
    )


class DryRunSchema(Schema):
    dry_run = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={"description": "Answer what would be sent to the provider; call nobody, store nothing."},
    )


class EventsQuerySchema(Schema):
    after = fields.String(
        metadata={
            "example": "17",
            "pattern": "^(-1|[0-9]{1,16})$",
            "description": "As the header `Last-Event-ID`, which wins: only events behind this id.",
        }
    )


class UsageSchema(Output):
    prompt_tokens = fields.Integer(metadata={"example": 16})
    completion_tokens = fields.Integer(metadata={"example": 120})
    total_tokens = fields.Integer(metadata={"example": 136})
    estimated = fields.Boolean(
        metadata={"example": False, "description": "true where the provider did not say, or not for all."}
    )


class ReplySchema(MessageSchema):
    """The assistant's message; while it is being written it has no position yet."""

    position = fields.Integer(allow_none=True, metadata={"example": 2})
    status = fields.String(metadata={"example": "completed"})


class CompletionSchema(Output):
    id = IdField()
    conversation_id = IdField()
    parent_id = IdField(metadata={"description": "The message that it answers."})
    provider_id = IdField()
    model = fields.String(metadata={"example": "gpt-5-mini"})
    status = fields.String(validate=validate.OneOf(STATUSES), metadata={"example": "completed"})
    message = fields.Nested(
        ReplySchema,
        allow_none=True,
        metadata={
            "description": "The reply. null where it ended before its first word, and in lists while in progress."
        },
    )
    reasoning = fields.String(
        allow_none=True,
        metadata={"example": None, "description": "What the model thought before it replied."},
    )
    usage = fields.Nested(UsageSchema, allow_none=True, metadata={"description": "null while in progress"})
    finish_reason = fields.String(
        allow_none=True,
        metadata={
            "example": "stop",
            "description": "The provider's (`stop`, `length`, `tool_calls`, `content_filter` …) or ours: `cancelled`, "
            "`error`, `server_stopped`, `worker_lost`.",
        },
    )
    omitted_messages = fields.Integer(
        metadata={
            "example": 0,
            "description": "How many older messages were left out to fit the model's window.",
        }
    )
    problem = fields.Dict(
        allow_none=True, metadata={"example": None, "description": "Why it did not end well (RFC 9457)."}
    )
    created_at = Time()
    finished_at = Time(allow_none=True)


class ModelSchema(Output):
    id = fields.String(metadata={"example": "gpt-5-mini"})
