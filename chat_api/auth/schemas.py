"""The schemas of accounts."""

import re
from functools import cache
from typing import Any, ClassVar

from marshmallow import Schema, ValidationError, fields, validate

from ..users.email_addresses import normalized_email
from ..users.models import ROLES
from ..web.fields import Flag, IdField, Output, Text, Time, WholeNumber, whole
from . import passwords, tokens

NO_EMAIL = "Not an email address."
MAX_EMAIL_CHARACTERS = 254
# RFC 6531 lets both sides have letters of any language; here all but the letters and signs that are hard to see
_BEYOND_ASCII = r"\u00A1-\u167F\u1681-\u1FFF\u2070-\u2FFF\u3001-\uD7FF\uF900-\uFDCF\uFDF0-\uFEFE\uFF01-\uFFDC"
_LETTER = f"A-Za-z0-9{_BEYOND_ASCII}"
_LABEL = f"[{_LETTER}](?:[{_LETTER}-]*[{_LETTER}])?"
EMAIL_PATTERN = (
    rf"^[{_LETTER}.!#$%&'*+/=?^_`{{|}}~-]+@(?:{_LABEL}(?:\.{_LABEL})+|[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt])$"
)


class _Password(Text):
    """A new password; any characters are allowed."""

    def __init__(self) -> None:
        super().__init__(
            shortest=passwords.SHORTEST,
            longest=passwords.LONGEST,
            load_only=True,
            metadata={"format": "password", "example": "correct horse battery staple"},
        )


@cache
def _address_pattern() -> re.Pattern[str]:
    """Compiled at the first login: with so many ranges that takes 15 ms."""
    return whole(EMAIL_PATTERN)


def _is_address(email: str) -> None:
    """Raise ValidationError for what is none."""
    if _address_pattern().match(email) is None:
        raise ValidationError(NO_EMAIL)


def _fits_as_stored(email: str) -> None:
    """Raise ValidationError for an address that is too long as it is compared: lower case may have more characters."""
    if len(normalized_email(email)) > MAX_EMAIL_CHARACTERS:
        raise ValidationError(NO_EMAIL)


class _Email(Text):
    """An address as HTML's `<input type=email>` takes it, of any language, with a dot in its domain or `localhost`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            longest=MAX_EMAIL_CHARACTERS,
            validate=[_is_address, _fits_as_stored],
            metadata={"example": "ada@example.org", "pattern": EMAIL_PATTERN},
            **kwargs,
        )


class RegisterSchema(Schema):
    email = _Email()
    password = _Password()


class RegisterWithInvitationSchema(RegisterSchema):
    json_schema = {"example": {"email": "ada@example.org", "password": "correct horse battery staple"}}

    invitation = Text(
        longest=255,
        required=False,
        load_default=None,
        load_only=True,
        metadata={
            "example": "chat_inv_0193…_u7Xk…",
            "description": "The code of an invitation, if registration needs one.",
        },
    )


class CreateInvitationSchema(Schema):
    json_schema = {"example": {"expires_in_days": 7}}

    email = _Email(required=False, load_default=None)
    expires_in_days = WholeNumber(
        load_default=7,
        validate=validate.Range(1, 365),
        metadata={"example": 7, "description": "Days until the invitation expires."},
    )


class InvitationSchema(Output):
    id = IdField()
    email = fields.String(
        allow_none=True,
        metadata={
            "example": "ada@example.org",
            "description": "The only email address that can register with it; null for any.",
        },
    )
    expires_at = Time()
    used_at = Time(
        allow_none=True, metadata={"example": None, "description": "When somebody registered with it."}
    )
    created_at = Time()


class NewInvitationSchema(InvitationSchema):
    invitation = fields.String(
        allow_none=True,
        metadata={
            "example": "chat_inv_0193…_u7Xk…",
            "description": "The code, to be sent with the registration. No other response contains it: it is null in"
            " a replayed one.",
        },
    )
    url = fields.String(
        allow_none=True,
        metadata={
            "example": "https://chat.example.org/join#invitation=chat_inv_0193…_u7Xk…",
            "description": "The link to give to the invited person; null if INVITATION_URL is not set, and in a "
            "replayed response.",
        },
    )


class LogInSchema(Schema):
    email = Text(longest=254, metadata={"example": "ada@example.org"})
    password = Text(longest=1024, metadata={"example": "correct horse battery staple"})


class ChangePasswordSchema(Schema):
    current_password = Text(longest=1024, metadata={"example": "correct horse battery staple"})
    password = _Password()
    keep_tokens = Flag(
        load_default=False,
        metadata={
            "example": False,
            "description": "Keep the personal access tokens, which otherwise are deleted.",
        },
    )


class UserSchema(Output):
    id = IdField()
    email = fields.String(
        allow_none=True,
        metadata={"example": "ada@example.org", "description": "null for users of an identity provider."},
    )
    role = fields.String(validate=validate.OneOf(ROLES), metadata={"example": "user"})
    created_at = Time()


class TokenPairSchema(Output):
    access_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln"})
    refresh_token = fields.String(metadata={"example": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln"})
    token_type = fields.String(metadata={"example": "Bearer"})
    expires_in = fields.Integer(
        metadata={"example": 900, "description": "Lifetime of the access token in seconds."}
    )
    user = fields.Nested(UserSchema)


def _current_password() -> Text:
    """For what `service.require_recent_login` guards."""
    return Text(
        longest=1024,
        required=False,
        load_default=None,
        load_only=True,
        metadata={
            "format": "password",
            "example": "correct horse battery staple",
            "description": "Required unless the login is only minutes old.",
        },
    )


class EraseAccountSchema(Schema):
    json_schema: ClassVar[dict[str, Any]] = {"example": {}}

    current_password = _current_password()


class CreateTokenSchema(Schema):
    json_schema = {"example": {"name": "nightly export", "expires_in_days": 30}}

    name = Text(longest=100, metadata={"example": "nightly export"})
    expires_in_days = WholeNumber(
        load_default=90,
        validate=validate.Range(1, max(tokens.MAX_PERSONAL_DAYS.values())),
        metadata={
            "example": 90,
            "description": "Days until the token expires; at most {admin} for an admin and {service} for a service "
            "account.".format(**tokens.MAX_PERSONAL_DAYS),
        },
    )
    current_password = _current_password()


class TokenSchema(Output):
    id = IdField()
    name = fields.String(metadata={"example": "nightly export"})
    expires_at = Time()
    created_at = Time()


class NewTokenSchema(TokenSchema):
    token = fields.String(
        allow_none=True,
        metadata={
            "example": "chat_pat_0193…_u7Xk…",
            "description": "The token itself. No other response contains it: it is null in a replayed one.",
        },
    )
