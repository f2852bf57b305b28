"""The schemas of users' API keys for providers. No answer contains a key."""

from marshmallow import Schema, fields, validate

from ..auth.fields import OwnerField
from ..llm_providers.schemas import ContextWindow
from ..web.fields import IdField, Output, Text, Time, whole
from .models import NO_KEY_HINT

# what can stand in an HTTP header: a key with a line break or a space would fail only when it is used
KEY_PATTERN = "^[!-~]+$"
MASK = "****"


class ReplaceConfigSchema(Schema):
    api_key = Text(
        longest=4096,
        is_ascii=True,
        load_only=True,
        required=False,
        load_default=None,
        allow_none=True,
        validate=[
            validate.Regexp(
                whole(KEY_PATTERN), error="Must consist of visible ASCII characters, without spaces."
            )
        ],
        metadata={
            "example": "sk-example-0123456789",
            "pattern": KEY_PATTERN,
            "description": "null, or left out, if the server needs no key.",
        },
    )
    default_model = Text(
        longest=255,
        required=False,
        load_default=None,
        allow_none=True,
        metadata={"example": "gpt-5-mini", "description": "The model for completions that name none."},
    )
    context_window = ContextWindow(load_default=None)
    api_endpoint = Text(
        longest=2048,
        required=False,
        load_default=None,
        load_only=True,
        metadata={
            "description": "The provider's `api_endpoint` for which the key is meant. If the provider has another one "
            "by now, the answer is 409 and the key is not stored.",
        },
    )


class CreateConfigSchema(ReplaceConfigSchema):
    user_id = OwnerField()
    provider_id = IdField()


class ConfigSchema(Output):
    id = IdField()
    user_id = IdField()
    provider_id = IdField()
    api_key = fields.Function(
        lambda config: None if config.api_key_hint == NO_KEY_HINT else MASK + config.api_key_hint,
        metadata={
            "type": ["string", "null"],
            "example": "****6789",
            "description": "Masked: at most its last four characters. null: there is none.",
        },
    )
    default_model = fields.String(allow_none=True, metadata={"example": "gpt-5-mini"})
    context_window = fields.Integer(allow_none=True, metadata={"example": 128000})
    created_at = Time()
    updated_at = Time()
