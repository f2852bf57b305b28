"""The shapes of the parameters that are more than a number, a flag or a text."""

import re
from collections.abc import Iterable
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from ..llm.translation import OWN_FIELDS
from ..web.fields import STORABLE_PATTERN, Flag, JsonObject, Text, WholeNumber, whole

MAX_DESCRIPTION = 64 * 1024  # characters of a tool's: those of agents are whole manuals
MAX_TOOLS = 128
MAX_BIASES = 1024
NAME_PATTERN = "^[A-Za-z0-9_.-]{1,64}$"


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


class ToolFunctionSchema(Schema):
    name = FunctionName()
    description = Text(
        required=False,
        shortest=0,
        longest=MAX_DESCRIPTION,
        metadata={"example": "Get the weather in a city."},
    )
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
    function = fields.Nested(ToolFunctionSchema, required=True)


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


class AllowedToolsSchema(Schema):
    mode = fields.String(required=True, validate=validate.OneOf(["auto", "required"]))
    tools = fields.List(fields.Nested(NamedToolSchema), required=True, validate=validate.Length(1, MAX_TOOLS))


class AllowedToolsChoiceSchema(Schema):
    type = fields.String(required=True, validate=validate.OneOf(["allowed_tools"]))
    allowed_tools = fields.Nested(AllowedToolsSchema, required=True)


class ToolChoice(fields.Field):
    """`auto`, `none`, `required`, the one function to call, or the only ones that may be called."""

    WORDS = ("auto", "none", "required")
    SYNONYMS = {"any": "required"}  # as Mistral and Anthropic say it

    def __init__(self, **kwargs: Any) -> None:
        function = _closed(name={"type": "string", "pattern": NAME_PATTERN})
        named = _closed(type={"type": "string", "enum": ["function"]}, function=function)
        some = _closed(
            mode={"type": "string", "enum": ["auto", "required"]},
            tools={"type": "array", "items": named, "minItems": 1, "maxItems": MAX_TOOLS},
        )
        allowed = _closed(type={"type": "string", "enum": ["allowed_tools"]}, allowed_tools=some)
        words = {"type": "string", "enum": [*self.WORDS, *self.SYNONYMS]}
        super().__init__(metadata={"anyOf": [words, named, allowed], "example": "auto"}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and value in (*self.WORDS, *self.SYNONYMS):
            return self.SYNONYMS.get(value, value)
        if isinstance(value, dict):
            is_choice = value.get("type") == "allowed_tools"
            schema = AllowedToolsChoiceSchema() if is_choice else NamedToolSchema()
            loaded: dict[str, Any] = schema.load(value)
            return loaded
        raise ValidationError(
            '"auto", "none", "required" (or "any"), {"type": "function", "function": {"name": "…"}}, or '
            '{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": […]}}.'
        )


class One(WholeNumber):
    """How many replies a completion has: the caller may only say that it is one."""

    def _validated(self, value: Any) -> int:
        number = super()._validated(value)
        if number != 1:
            raise ValidationError(
                "A completion has one reply. For alternatives, request several completions with the same parent_id."
            )
        return number


class Cache(fields.Field):
    """Whether the prompt is cached: true, false, or with how long and under which key."""

    TTLS = ("5m", "1h", "24h")

    def __init__(self, **kwargs: Any) -> None:
        settings = {
            "type": "object",
            "properties": {
                "ttl": {"type": "string", "enum": list(self.TTLS)},
                "key": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": STORABLE_PATTERN},
            },
            "additionalProperties": False,
        }
        super().__init__(metadata={"anyOf": [{"type": "boolean"}, settings], "example": True}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, dict):
            loaded: dict[str, Any] = _CacheSchema().load(value)
            return loaded
        raise ValidationError('true, false, or {"ttl": "1h", "key": "…"}.')


class _CacheSchema(Schema):
    ttl = fields.String(validate=validate.OneOf(Cache.TTLS))
    key = Text(required=False, longest=64)


class LogitBias(JsonObject):
    """By the ids of tokens, how much likelier each is to be chosen."""

    def __init__(self) -> None:
        shape = {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]{1,9}$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            "maxProperties": MAX_BIASES,
        }
        description = "By token id, from -100 (never) to 100."
        super().__init__(metadata={"allOf": [shape], "example": {"1734": -100}, "description": description})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        biases = super()._deserialize(value, attr, data, **kwargs)
        for key, bias in biases.items():
            is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
            if not (re.fullmatch("[0-9]{1,9}", key) and is_number and -100 <= bias <= 100):
                raise ValidationError("Must map token ids to numbers from -100 to 100.")
        if len(biases) > MAX_BIASES:
            raise ValidationError(f"Must have at most {MAX_BIASES} tokens.")
        return biases


class Labels(fields.Dict):
    """Up to sixteen short texts by name."""

    def __init__(self) -> None:
        shape = {
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
            "maxProperties": 16,
        }
        super().__init__(
            keys=Text(longest=64),
            values=Text(shortest=0, longest=512),
            validate=validate.Length(max=16),
            metadata={"allOf": [shape], "example": {"team": "support"}},
        )


class Extra(JsonObject):
    """Further fields of the request's body, as the provider's own documents have them."""

    def __init__(self) -> None:
        description = (
            "Further fields of the request's body, as in the provider's own documentation. They can't set "
            "what the service sets (model, messages, stream), nor what has a parameter of its own. `tools` "
            "in it, such as a provider's web search, are added after the functions."
        )
        super().__init__(metadata={"example": {"provider": {"sort": "price"}}, "description": description})
        self._own_names: frozenset[str] = frozenset()

    def leave_to_others(self, names: Iterable[str]) -> None:
        """Refuse these names, which are given beside it; except for `tools`, of which there are others."""
        self._own_names = frozenset(names) - {"tools"}
        refused = sorted({*OWN_FIELDS, *self._own_names})
        tools = {"type": "array", "items": {"type": "object"}, "maxItems": MAX_TOOLS}
        shape = {"propertyNames": {"not": {"enum": refused}}, "properties": {"tools": tools}}
        self.metadata = {**self.metadata, "allOf": [shape]}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        extra = super()._deserialize(value, attr, data, **kwargs)
        for name in extra:
            if name in OWN_FIELDS:
                raise ValidationError(f"{name} is set by the service.")
            if name in self._own_names:
                raise ValidationError(f"{name} is a parameter of its own; give it beside extra.")
        tools = extra.get("tools", [])
        is_list = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
        if not is_list or len(tools) > MAX_TOOLS:
            raise ValidationError(f"tools: Must be at most {MAX_TOOLS} objects.")
        return extra


def _closed(**properties: Any) -> dict[str, Any]:
    """The JSON Schema of an object that has all these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
