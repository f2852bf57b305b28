"""The shapes of users' provider keys, in and out. A key never comes out."""

from marshmallow import Schema, fields, validate

from ..fields import IdField, Output, Text, Time, whole

# what can stand in an HTTP header: a key with a line break or a space would fail only when it is used
KEY_PATTERN = "^[!-~]+$"
MASK = "****"


class CreateConfigSchema(Schema):
    user_id = IdField()
    provider_id = IdField()
    api_key = Text(
        longest=4096,
        load_only=True,
        validate=[
            validate.Regexp(whole(KEY_PATTERN), error="Only visible ASCII characters, without spaces.")
        ],
        metadata={"example": "sk-example-0123456789", "pattern": KEY_PATTERN},
    )


class ConfigSchema(Output):
    id = IdField()
    user_id = IdField()
    provider_id = IdField()
    api_key = fields.Function(
        lambda config: MASK + config.api_key_hint,
        metadata={
            "type": "string",
            "example": "****6789",
            "description": "Masked: its last characters at most.",
        },
    )
    created_at = Time()
    updated_at = Time()
