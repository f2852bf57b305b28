"""Fields of providers: how the key is sent, additional headers, fields of the body, and options of requests."""

import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from ..llm.headers import NO_KEY
from ..llm.openai.dialects import DIALECTS
from ..llm.options import LEARNED_ONLY, RequestOptions
from ..llm.vendors import BEARER, vendors
from ..web.fields import Flag, JsonObject, Text, whole

MASK = "****"
MAX_HEADERS = 20
MAX_HEADER_NAME_LENGTH = 64
MAX_HEADER_VALUE_LENGTH = 4096
MAX_HEADERS_BYTES = 16 * 1024
MAX_EXTRA_BODY_BYTES = 16 * 1024

HEADER_NAME_PATTERN = f"^[A-Za-z0-9!#$%&'*+.^_`|~-]{{1,{MAX_HEADER_NAME_LENGTH}}}$"  # RFC 9110 section 5.6.2
# visible ASCII, with spaces inside: no line break can end the header
HEADER_VALUE_PATTERN = "^[!-~]([ -~]*[!-~])?$"
# of the connection (RFC 9110 section 7.6.1), of the message's framing, and those that a protocol sets itself
RESERVED_HEADERS = frozenset(
    {"accept", "accept-encoding", "anthropic-version", "connection", "content-encoding", "content-length",
     "content-type", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip


def _any_case(names: Iterable[str]) -> str:
    """A pattern of these names in upper and lower case, as every reader of patterns understands it."""
    spelled = ("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in name) for name in sorted(names))
    return f"^({'|'.join(spelled)})$"


RESERVED_PATTERN = _any_case(RESERVED_HEADERS)
# set by the protocol, or not by anybody: several replies to one message can't be stored
RESERVED_FIELDS = frozenset({"messages", "model", "n", "stream", "stream_options", "system"})

# what apispec has no words for: the names in Headers and ExtraBody
NAMES_SCHEMA = {
    "headers": {
        "propertyNames": {"pattern": HEADER_NAME_PATTERN, "not": {"pattern": RESERVED_PATTERN}},
    },
    "extra_body": {"propertyNames": {"not": {"enum": sorted(RESERVED_FIELDS)}}},
}

_NAME = whole(HEADER_NAME_PATTERN)
_VALUE = whole(HEADER_VALUE_PATTERN)


class Catalog(fields.String):
    """The id of a known vendor."""

    def __init__(self, **kwargs: Any) -> None:
        description = "A vendor of `GET /chat/llm-providers/catalog`."
        metadata = {"example": "gemini", "description": description}
        super().__init__(
            allow_none=True, validate=validate.OneOf(list(vendors())), metadata=metadata, **kwargs
        )


class Auth(Text):
    """How a provider gets the key."""

    def __init__(self, **kwargs: Any) -> None:
        description = (
            f"How the provider gets the key: `{BEARER}` (`Authorization: Bearer …`), `{NO_KEY}`, or the name of the "
            "header that takes it, such as `api-key`. null: the default of its vendor or protocol."
        )
        metadata = {
            "example": "api-key",
            "pattern": HEADER_NAME_PATTERN,
            "not": {"type": "string", "pattern": RESERVED_PATTERN},
            "description": description,
        }
        super().__init__(
            longest=MAX_HEADER_NAME_LENGTH,
            is_ascii=True,
            required=False,
            allow_none=True,
            metadata=metadata,
            **kwargs,
        )

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text.lower() in (BEARER, NO_KEY):
            return text.lower()
        if complaint := complaint_about_name(text):
            raise ValidationError(complaint)
        return text


class Headers(fields.Field):
    """Headers by name. `may_remove` lets null stand for one that goes."""

    longest_json = MAX_HEADERS_BYTES

    def __init__(self, *, may_remove: bool = False, **kwargs: Any) -> None:
        text = {"type": "string", "pattern": HEADER_VALUE_PATTERN, "maxLength": MAX_HEADER_VALUE_LENGTH}
        metadata = {
            "type": "object",
            "additionalProperties": {**text, "type": ["string", "null"]} if may_remove else text,
            "maxProperties": MAX_HEADERS,
            "example": {"HTTP-Referer": "https://chat.example.com"},
            "description": "Additional headers of every request. Values are encrypted like keys, and no answer "
            "contains one. They are deleted when `api_endpoint` changes. If the user's key is sent in one of "
            "these headers, the key takes precedence."
            + (" Headers that are not named stay; null removes one, or all." if may_remove else ""),
        }
        super().__init__(allow_none=True, metadata=metadata, **kwargs)
        self._may_remove = may_remove

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Must be an object of headers and their values.")
        if len(value) > MAX_HEADERS:
            raise ValidationError(f"More than {MAX_HEADERS} headers.")
        if len({name.lower() for name in value}) < len(value):
            raise ValidationError("A header is named twice; upper and lower case make no difference.")
        for name, text in value.items():
            if complaint := complaint_about_name(name):
                raise ValidationError(complaint)
            if text is not None or not self._may_remove:
                _require_value(text)
        if sum(len(name) + len(text or "") for name, text in value.items()) > MAX_HEADERS_BYTES:
            raise ValidationError(f"All headers together are longer than {MAX_HEADERS_BYTES} bytes.")
        return value


def complaint_about_name(name: str) -> str | None:
    """What is wrong with the name of a header, or None."""
    if not _NAME.match(name):
        return f"A header's name has letters, digits and hyphens, at most {MAX_HEADER_NAME_LENGTH}."
    if name.lower() in RESERVED_HEADERS:
        return f"{name} can't be set: it belongs to the connection or to the protocol."
    return None


def _require_value(text: object) -> None:
    """Raise ValidationError unless this can be the value of a header; the error does not repeat it."""
    if not isinstance(text, str) or len(text) > MAX_HEADER_VALUE_LENGTH or not _VALUE.match(text):
        raise ValidationError(
            f"A header's value has 1 to {MAX_HEADER_VALUE_LENGTH} visible ASCII characters, and spaces inside."
        )
    if text == MASK:
        raise ValidationError(f"{MASK} stands for a stored value; leave a header out to keep it as it is.")


class ExtraBody(JsonObject):
    """Fields of every request to a provider."""

    longest_json = MAX_EXTRA_BODY_BYTES

    def __init__(self, **kwargs: Any) -> None:
        description = (
            "Additional fields of every request's body, under the provider's own names. Parameters of a "
            f"completion take precedence. Not allowed: {', '.join(sorted(RESERVED_FIELDS))}."
        )
        metadata = {
            "example": {"safe_prompt": True},
            "description": description,
        }
        super().__init__(allow_none=True, metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        content = super()._deserialize(value, attr, data, **kwargs)
        if reserved := sorted(RESERVED_FIELDS & content.keys()):
            raise ValidationError(f"{', '.join(reserved)} can't be set here.")
        if len(orjson.dumps(content)) > MAX_EXTRA_BODY_BYTES:
            raise ValidationError(f"Longer than {MAX_EXTRA_BODY_BYTES} bytes as JSON.")
        return content


def parsed_object(text: str | None) -> dict[str, Any]:
    """A JSON object of a provider's row; None is an empty one."""
    return orjson.loads(text) if text else {}


def _option_field(name: str, kind: Any) -> fields.Field:
    """The field for one of RequestOptions."""
    if kind is bool:
        return Flag()
    if name == "dialect":
        return fields.String(validate=validate.OneOf([*DIALECTS]))
    if typing.get_origin(kind) is Literal:
        return fields.String(validate=validate.OneOf(typing.get_args(kind)))
    raise TypeError(f"RequestOptions.{name} has a type that no field is known for.")


def _option_fields() -> dict[str, fields.Field]:
    kinds = typing.get_type_hints(RequestOptions)
    names = [field.name for field in dataclass_fields(RequestOptions) if field.name not in LEARNED_ONLY]
    return {name: _option_field(name, kinds[name]) for name in names}


class _Strict(Schema):
    class Meta:
        unknown = RAISE


RequestOptionsSchema: type[Schema] = type("RequestOptionsSchema", (_Strict,), _option_fields())


class Options(fields.Nested):
    """Changes of how requests are made."""

    longest_json = 2048

    def __init__(self, **kwargs: Any) -> None:
        description = (
            "What the server needs in its requests, if that differs from its vendor's defaults; see "
            "docs/providers.md. Options that are not given keep their defaults."
        )
        metadata = {"example": {"stream_options": False}, "description": description}
        super().__init__(RequestOptionsSchema, allow_none=True, metadata=metadata, **kwargs)
