"""The parameters of a completion that clients can set."""

import math
from typing import Any

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate

from ..web.fields import STORABLE_PATTERN, Flag, Text, WholeNumber, whole

MAX_TOOLS_BYTES = 256 * 1024
# of objects and arrays inside a parameter; the encoder gives up at 254, around all that is sent
MAX_DEPTH = 100
LARGEST_INTEGER = 2**63 - 1
NAME_PATTERN = "^[A-Za-z0-9_.-]{1,64}$"


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


class FunctionName(fields.String):
    """The name of a function that the model may call."""

    def __init__(self) -> None:
        super().__init__(
            required=True,
            validate=validate.Regexp(
                whole(NAME_PATTERN), error="Must be 1 to 64 letters, digits, underscores, dots and hyphens."
            ),
            metadata={"example": "get_weather", "pattern": NAME_PATTERN},
        )


class JsonObject(fields.Dict):
    """Any JSON object that can be sent on: not nested too deeply, and no number that no other JSON reader takes in."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        content = super()._deserialize(value, attr, data, **kwargs)
        pending: list[tuple[int, Any]] = [(1, content)]
        while pending:  # without recursion: depth is the client's choice
            depth, outer = pending.pop()
            if depth > MAX_DEPTH:
                raise ValidationError(f"Nested more than {MAX_DEPTH} levels deep.")
            for key, item in list(outer.items() if isinstance(outer, dict) else enumerate(outer)):
                if isinstance(item, dict | list):
                    pending.append((depth + 1, item))
                elif isinstance(item, int | float):
                    outer[key] = _portable(item)
        return content


def _portable(number: float) -> float:
    """The number as the encoder takes it: beyond 64 bits as a float, which most readers make of it anyway."""
    if isinstance(number, int) and abs(number) <= LARGEST_INTEGER:
        return number
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):  # also 1e999
        raise ValidationError("Contains a number that is too large.")
    return value


class FunctionSchema(Schema):
    name = FunctionName()
    description = Text(required=False, longest=4096, metadata={"example": "Get the weather in a city."})
    parameters = JsonObject(
        metadata={
            "example": {"type": "object", "properties": {"city": {"type": "string"}}},
            "description": "JSON Schema of the arguments.",
        }
    )
    strict = Flag(metadata={"example": True})


class ToolSchema(Schema):
    type = fields.String(
        required=True, validate=validate.OneOf(["function"]), metadata={"example": "function"}
    )
    function = fields.Nested(FunctionSchema, required=True)


class NamedFunctionSchema(Schema):
    name = FunctionName()


class NamedToolSchema(Schema):
    type = fields.String(required=True, validate=validate.OneOf(["function"]))
    function = fields.Nested(NamedFunctionSchema, required=True)


class Stop(fields.Field):
    """A stop sequence, or up to four."""

    def __init__(self, **kwargs: Any) -> None:
        text = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": STORABLE_PATTERN}
        shape = {"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": 4}]}
        super().__init__(metadata={**shape, "example": ["\n\n"]}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not (
            isinstance(texts, list)
            and 1 <= len(texts) <= 4
            and all(isinstance(text, str) and 1 <= len(text) <= 256 for text in texts)
        ):
            raise ValidationError(
                "Must be a string, or a list of 1 to 4 strings, of 1 to 256 characters each."
            )
        return texts


class ToolChoice(fields.Field):
    """`auto`, `none`, `required`, or the one function to call."""

    WORDS = ("auto", "none", "required")

    def __init__(self, **kwargs: Any) -> None:
        function = _closed(name={"type": "string", "pattern": NAME_PATTERN})
        named = _closed(type={"type": "string", "enum": ["function"]}, function=function)
        words = {"type": "string", "enum": list(self.WORDS)}
        super().__init__(metadata={"anyOf": [words, named], "example": "auto"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and value in self.WORDS:
            return value
        if isinstance(value, dict):
            return NamedToolSchema().load(value)
        raise ValidationError(
            '"auto", "none", "required", or {"type": "function", "function": {"name": "…"}}.'
        )


def _closed(**properties: Any) -> dict[str, Any]:
    """The JSON Schema of an object that has all these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


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
    response_format = JsonObject(
        metadata={"example": {"type": "json_object"}, "description": "The same as in OpenAI's API."}
    )
    tools = fields.List(fields.Nested(ToolSchema), validate=validate.Length(1, 128))
    tool_choice = ToolChoice()
    parallel_tool_calls = Flag(metadata={"example": True})

    @post_load
    def refuse_too_much(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        for name in ("tools", "response_format"):
            if name in values and len(orjson.dumps(values[name])) > MAX_TOOLS_BYTES:
                raise ValidationError({name: [f"Longer than {MAX_TOOLS_BYTES} bytes."]})
        return values
