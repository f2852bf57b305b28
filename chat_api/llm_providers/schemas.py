"""The schemas of LLM providers."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields, post_load, validate

from ..llm.addresses import protocol_of_pasted
from ..llm.request import API_FORMATS
from ..llm.vendors import HOW_CHECKED, vendors
from ..web.fields import ChangesSchema, Flag, IdField, Output, Text, Time, WholeNumber, whole
from .fields import MASK, NAMES_SCHEMA, Auth, Catalog, ExtraBody, Headers, Options, parsed_object
from .slugs import MAX_LENGTH, SLUG_PATTERN

# host, optional port, path and query of visible ASCII: what one URL parser reads, every other reads alike
_HOST = r"[A-Za-z0-9](([A-Za-z0-9_-]|\.(?!\.)){0,251}[A-Za-z0-9])?"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
URL_PATTERN = (
    rf"^[hH][tT][tT][pP][sS]?://(\[[0-9A-Fa-f:.]+\]|{_HOST})(:{_PORT})?"
    r"([/?][!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?$"
)
_URL = whole(URL_PATTERN)
_SLUG = (
    "The provider's part of a model name below `/v1`, as in `example-ai/gpt-5-mini`. Unique among the "
    "providers of one owner."
)
_NO_SLUG = "Must begin with a lower-case letter or digit; then also dots, underscores and hyphens, up to 63 characters."


class EndpointField(Text):
    """The http or https URL of a provider: a host, no credentials, no fragment. It is not called here."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {"example": "https://api.example.com/v1", "format": "uri", "pattern": URL_PATTERN}
        super().__init__(longest=2048, is_ascii=True, metadata=metadata, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if complaint := complaint_about_url(text):
            raise ValidationError(complaint)
        return text


def complaint_about_url(text: str) -> str | None:
    """What is wrong with a provider's URL, or None."""
    if not text.lower().startswith(("http://", "https://")):
        return "Must be a URL that begins with http:// or https://."
    if "#" in text:
        return "Must not have a fragment (#…)."
    if "@" in re.split("[/?]", text.partition("://")[2], maxsplit=1)[0]:
        return "Must not contain credentials (user:password@); API keys are stored as user-llm-configs."
    if not _URL.match(text):
        return (
            "Not a valid URL: the host may have letters, digits, - and single dots, the port is from 1 to 65535, "
            "and the path has other characters percent-encoded."
        )
    try:
        urlsplit(text)
    except ValueError:
        return "Not a valid URL: malformed IP address."
    return None


class ApiFormat(fields.String):
    """The protocol that a provider speaks."""

    def __init__(self, **kwargs: Any) -> None:
        description = (
            "The provider's protocol: OpenAI's Chat Completions, which most providers use, or Anthropic's "
            "Messages."
        )
        metadata = {"example": "openai", "description": description}
        super().__init__(validate=validate.OneOf(API_FORMATS), metadata=metadata, **kwargs)


class Slug(Text):
    """What stands for a provider in the name of a model."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        described = {
            "example": "example-ai",
            "pattern": SLUG_PATTERN,
            "description": _SLUG,
            **(metadata or {}),
        }
        super().__init__(
            longest=MAX_LENGTH,
            is_ascii=True,
            required=False,
            validate=validate.Regexp(whole(SLUG_PATTERN), error=_NO_SLUG),
            metadata=described,
            **kwargs,
        )


class ContextWindow(WholeNumber):
    """The size of a model's context window, in tokens."""

    def __init__(self, **kwargs: Any) -> None:
        description = "Size of the context window in tokens; older messages that do not fit are not sent."
        metadata = {"example": 128000, "description": description}
        super().__init__(
            allow_none=True, validate=validate.Range(256, 100_000_000), metadata=metadata, **kwargs
        )


def _what_is_required() -> dict[str, Any]:
    """A vendor says what is left out, some of them without the address.

    Not as `anyOf`, of which generators make three types.
    """
    whole_ones = [vendor.id for vendor in vendors().values() if not vendor.has_placeholders]
    others = [vendor.id for vendor in vendors().values() if vendor.has_placeholders]
    return {
        "if": _from_catalog(whole_ones),
        "else": {
            "required": ["api_endpoint"],
            "if": _from_catalog(others),
            "else": {"required": ["name"]},
        },
    }


def _from_catalog(ids: list[str]) -> dict[str, Any]:
    return {"required": ["catalog"], "properties": {"catalog": {"enum": ids}}}


class CreateProviderSchema(Schema):
    json_schema = {
        **_what_is_required(),
        "properties": NAMES_SCHEMA,
        "example": {"name": "Example AI", "api_endpoint": "https://api.example.com/v1"},
    }

    catalog = Catalog(load_default=None)
    name = Text(
        longest=255,
        required=False,
        metadata={"example": "Example AI", "description": "By default the vendor's, if `catalog` is given."},
    )
    slug = Slug(load_default=None, metadata={"description": "By default made from the name."})
    api_endpoint = EndpointField(required=False)
    api_format = ApiFormat()
    context_window = ContextWindow(load_default=None)
    auth = Auth(load_default=None)
    headers = Headers(load_default=None)
    extra_body = ExtraBody(load_default=None)
    request_options = Options(load_default=None)
    shared = Flag(
        load_default=False,
        metadata={
            "example": False,
            "description": "A shared provider is visible to all users and owned by none. Only admins can create one.",
        },
    )

    @post_load
    def add_defaults(self, body: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Complete the body with what is known of the vendor."""
        vendor = vendors().get(body["catalog"] or "")
        if vendor is not None:
            body = {"name": vendor.name, "api_format": vendor.api_format, **body}
            if not vendor.has_placeholders:
                body.setdefault("api_endpoint", vendor.api_endpoint)
        missing = [name for name in ("name", "api_endpoint") if name not in body]
        if vendor is not None and "api_endpoint" in missing:
            complaint = f"Missing: {vendor.name} has another one for each account, {vendor.api_endpoint}."
            raise ValidationError({"api_endpoint": [complaint]})
        if missing:
            raise ValidationError({name: ["Missing data for required field."] for name in missing})
        return {"api_format": protocol_of_pasted(body["api_endpoint"]), **body}


class UpdateProviderSchema(ChangesSchema):
    json_schema = {"properties": NAMES_SCHEMA, "example": {"name": "Example AI", "context_window": 128000}}

    catalog = Catalog()
    name = Text(longest=255, required=False, metadata={"example": "Example AI"})
    slug = Slug()
    api_endpoint = EndpointField(required=False)
    api_format = ApiFormat()
    context_window = ContextWindow()
    auth = Auth()
    headers = Headers(may_remove=True)
    extra_body = ExtraBody()
    request_options = Options()


class ProviderSchema(Output):
    id = IdField()
    name = fields.String(metadata={"example": "Example AI"})
    slug = fields.String(
        allow_none=True,
        metadata={
            "example": "example-ai",
            "description": "The provider's part of a model name below `/v1`, as in `example-ai/gpt-5-mini`. null if an "
            "older release added the provider during an upgrade; set one with PATCH.",
        },
    )
    api_endpoint = fields.String(metadata={"example": "https://api.example.com/v1"})
    api_format = fields.String(validate=validate.OneOf(API_FORMATS), metadata={"example": "openai"})
    context_window = fields.Integer(allow_none=True, metadata={"example": 128000})
    catalog = fields.String(allow_none=True, metadata={"example": "gemini"})
    auth = fields.String(allow_none=True, metadata={"example": "api-key"})
    headers = fields.Function(
        lambda provider: dict.fromkeys(parsed_object(provider.encrypted_headers), MASK),
        metadata={
            "type": "object",
            "additionalProperties": {"type": "string", "const": MASK},
            "example": {"HTTP-Referer": MASK},
            "description": "The names of the additional headers. The values are not returned.",
        },
    )
    extra_body = fields.Function(
        lambda provider: parsed_object(provider.extra_body),
        metadata={"type": "object", "example": {"safe_prompt": True}},
    )
    request_options = fields.Function(
        lambda provider: parsed_object(provider.request_options),
        metadata={"type": "object", "example": {"stream_options": False}},
    )
    owner_id = IdField(allow_none=True, metadata={"description": "null for a shared provider."})
    shared = fields.Function(
        lambda provider: provider.owner_id is None,
        metadata={
            "type": "boolean",
            "example": False,
            "description": "Whether the provider is available to all users.",
        },
    )
    created_at = Time()


class VendorSchema(Output):
    """A vendor of the catalog."""

    id = fields.String(metadata={"example": "gemini", "description": "The value of `catalog`."})
    name = fields.String(metadata={"example": "Google Gemini"})
    api_endpoint = fields.String(
        metadata={
            "example": "https://generativelanguage.googleapis.com/v1beta/openai",
            "description": "Replace the placeholders in braces.",
        }
    )
    api_format = fields.String(validate=validate.OneOf(API_FORMATS), metadata={"example": "openai"})
    auth = fields.String(metadata={"example": "bearer"})
    needs_key = fields.Boolean(metadata={"example": True})
    request_options = fields.Dict(attribute="options", metadata={"example": {"dialect": "gemini"}})
    checked = fields.List(
        fields.String(validate=validate.OneOf(HOW_CHECKED)),
        metadata={"example": ["documents"], "description": "How the support for this vendor was verified."},
    )
    notes = fields.String(metadata={"example": "The OpenAI-compatible API."})
