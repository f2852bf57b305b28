"""Marshmallow fields that the resources share, strict about types."""

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..errors import InvalidInput

UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

# of objects and arrays inside a JsonObject; the encoder gives up at 254, around all that is sent
MAX_DEPTH = 100
LARGEST_INTEGER = 2**63 - 1
STORABLE_PATTERN = "^[^\\u0000]*$"  # for the API document; json_body refuses what can't be stored


def whole(pattern: str) -> re.Pattern[str]:
    """Compile a `^…$` pattern of the API document to match the whole text: Python's $ also matches before a final line
    break."""
    return re.compile(pattern.removesuffix("$") + r"\Z")


_UUID = whole(UUID_PATTERN)


def is_uuid(text: str) -> bool:
    """Whether it is a UUID in its canonical form, of any case and version."""
    return _UUID.match(text) is not None


class Text(fields.String):
    """Text of `shortest` to `longest` characters, and of at most `max_bytes` bytes in UTF-8."""

    def __init__(
        self,
        *,
        shortest: int = 1,
        longest: int | None = None,
        max_bytes: int | None = None,
        is_ascii: bool = False,
        **kwargs: Any,
    ) -> None:
        """`is_ascii` promises that a validator refuses other characters."""
        kwargs.setdefault("required", True)
        limits = {"minLength": shortest, "maxLength": longest or max_bytes}
        metadata = {"pattern": STORABLE_PATTERN} | limits | kwargs.pop("metadata", {})
        super().__init__(metadata=metadata, **kwargs)
        self.max_bytes = longest if is_ascii else max_bytes
        self._shortest, self.longest = shortest, longest or max_bytes or sys.maxsize
        self._refuse_length = validate.Length(min=shortest, max=self.longest)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = value if type(value) is str else super()._deserialize(value, attr, data, **kwargs)
        if not self._shortest <= len(text) <= self.longest:
            self._refuse_length(text)
        # the encoded length is only worth computing where the characters alone could be too long
        limit = self.max_bytes
        if limit is not None and len(text) * 4 > limit and len(text.encode()) > limit:
            raise ValidationError(f"Longer than maximum length of {limit} bytes in UTF-8.")
        return text


class IdField(fields.String):
    """The id of an object: a UUID in its canonical form, of any case."""

    default_error_messages = {"invalid_id": "Not a UUID."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("required", True)
        metadata = {"format": "uuid", "pattern": UUID_PATTERN} | kwargs.pop("metadata", {})
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = value if type(value) is str else super()._deserialize(value, attr, data, **kwargs)
        if not is_uuid(text):
            raise self.make_error("invalid_id")
        return text.lower()


class Flag(fields.Boolean):
    """true or false. The stock field also takes 0 and 1, which equal them in Python."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class QueryFlag(fields.Boolean):
    """true or false in a query. The stock field also takes on, off, yes, no, t, f, 0 and 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(truthy={"true"}, falsy={"false"}, **kwargs)


class WholeNumber(fields.Integer):
    """A whole number as JSON Schema has it: 90 and 90.0, but not "90". The stock field takes the text, or no 90.0."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, str) or (isinstance(value, float) and not value.is_integer()):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class JsonObject(fields.Dict):
    """Any JSON object that can be sent on: not nested too deeply, and no number that no other JSON reader takes in."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        content: dict[str, Any] = portable(super()._deserialize(value, attr, data, **kwargs))
        return content


def portable(value: Any) -> Any:
    """A value of JSON as it can be sent on; what is in it is changed in place. Raises ValidationError."""
    whole = [value]
    pending: list[tuple[int, Any]] = [(0, whole)]
    while pending:  # without recursion: depth is the client's choice
        depth, outer = pending.pop()
        if depth > MAX_DEPTH:
            raise ValidationError(f"Nested more than {MAX_DEPTH} levels deep.")
        for key, item in list(outer.items() if isinstance(outer, dict) else enumerate(outer)):
            if isinstance(item, dict | list):
                pending.append((depth + 1, item))
            elif isinstance(item, int | float):
                outer[key] = _portable_number(item)
    return whole[0]


def _portable_number(number: float) -> float:
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


class Time(fields.AwareDateTime):
    """A time in UTC, as RFC 3339 with a Z."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("metadata", {"example": "2026-11-23T09:30:00.123456Z"})
        super().__init__(format="iso", **kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return value  # the JSON encoder writes times, everywhere the same


class ChangesSchema(Schema):
    """Base of the schemas of PATCH: only the named fields change, and at least one is named."""

    @validates_schema(pass_original=True)
    def refuse_nothing(self, changes: dict[str, Any], original: Mapping[str, Any], **kwargs: Any) -> None:
        """Raise InvalidInput for an empty body; the error belongs to no field."""
        if not original:
            raise InvalidInput(detail="Name at least one field to change: " + ", ".join(self.fields) + ".")


class Output(Schema):
    """Base of the schemas that describe answers; never used to load anything.

    In the API document all fields are required but those in `may_lack`, and further ones may be added. With `one_of` it
    stands for any of these, which have a different constant each in the field `type`.
    """

    may_lack: ClassVar[tuple[str, ...]] = ()
    one_of: ClassVar[tuple[type[Schema], ...]] = ()
