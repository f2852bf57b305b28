"""The shapes of providers, in and out."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields

from ..fields import IdField, Output, Text, Time, whole

# host, optional port, path and query of visible ASCII: what one URL parser reads, every other reads alike
URL_PATTERN = (
    r"^[hH][tT][tT][pP][sS]?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(:[0-9]{1,5})?([/?][!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?$"
)
_URL = whole(URL_PATTERN)


class EndpointField(Text):
    """The http or https URL of a provider: a host, no credentials, no fragment. Nothing is called here."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {"example": "https://api.example.com/v1", "format": "uri", "pattern": URL_PATTERN}
        super().__init__(longest=2048, metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if complaint := complaint_about_url(text):
            raise ValidationError(complaint)
        return text


def complaint_about_url(text: str) -> str | None:
    """What is wrong with a provider's URL, or None."""
    if not text.lower().startswith(("http://", "https://")):
        return "Must be a URL that begins with http:// or https://."
    if "#" in text:
        return "Must have no fragment (#…)."
    if "@" in re.split("[/?]", text.partition("://")[2], maxsplit=1)[0]:
        return "Must have no credentials (user:password@); the key is stored with a user-llm-config."
    if not _URL.match(text):
        return "Not a URL of a host: use letters, digits and - . for the host, and %-escapes in the path."
    try:
        parts = urlsplit(text)
        if parts.port == 0:
            return "Port 0 can't be called."
    except ValueError:
        return "Not a URL: its port or its address can't be read."
    if ".." in (parts.hostname or "") or len(parts.hostname or "") > 253:
        return "Not a URL of a host: an empty or too long part in its name."
    return None


class CreateProviderSchema(Schema):
    name = Text(longest=255, metadata={"example": "Example AI"})
    api_endpoint = EndpointField()
    shared = fields.Boolean(
        load_default=False,
        truthy={True},
        falsy={False},
        metadata={"example": False, "description": "Seen by all users, owned by none. For admins only."},
    )


class ProviderSchema(Output):
    id = IdField()
    name = fields.String(metadata={"example": "Example AI"})
    api_endpoint = fields.String(metadata={"example": "https://api.example.com/v1"})
    owner_id = IdField(allow_none=True, metadata={"description": "null for a shared provider"})
    created_at = Time()
