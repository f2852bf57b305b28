"""The schemas of attachments."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from marshmallow import Schema, ValidationError, fields, validate

from ..web.fields import Flag, IdField, Output, Text, Time, WholeNumber, whole
from .models import MAX_FILE_PATH

# RFC 6838 section 4.2 for the names, RFC 9110 section 8.3.1 for the parameters
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_VALUE = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+|" r'"[ !#-\[\]-~]*")'
MEDIA_TYPE_PATTERN = rf"^{_NAME}/{_NAME}( ?; ?[A-Za-z0-9_.-]+={_VALUE})*$"

# RFC 3986 section 3.1; one letter is a Windows drive
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
# schemes of files and nothing that a client might run or that names the server's own disk
SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "azure", "abfs", "abfss", "wasb", "wasbs", "r2", "b2",
           "oss", "cos", "minio", "swift", "ftp", "ftps", "sftp", "ipfs")  # fmt: skip
# for the API document: what complaint_about_path says of a path without percent signs; [hH] since JSON Schema's
# patterns know no other way to ignore the case
_ANY_CASE = "|".join("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in scheme) for scheme in SCHEMES)
PATH_PATTERN = (
    rf"^(?!(?!({_ANY_CASE}):)[A-Za-z][A-Za-z0-9+.-]+:)"  # no other scheme
    r"(?!(.*[/\\])?\.\.([/\\]|$))"  # no .. segment
    r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"  # no control character, no line break
)
DECODINGS = 3  # %252e%252e is .. after two


class FilePathField(Text):
    """The client's own path or URL of a file. Stored and returned, never opened."""

    def __init__(self, **kwargs: Any) -> None:
        description = (
            f"The client's own path or URL, never opened by the server. Schemes: {', '.join(SCHEMES)}. No `..` "
            "segments and no control characters."
        )
        metadata = {"example": "uploads/receipt.png", "description": description, "pattern": PATH_PATTERN}
        super().__init__(longest=MAX_FILE_PATH, metadata=metadata, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if complaint := complaint_about_path(text):
            raise ValidationError(complaint)
        return text


def complaint_about_path(text: str) -> str | None:
    """What is wrong with a file path, or None. Percent-encoded forms count as what they stand for."""
    for _ in range(DECODINGS + 1):
        if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
            return "Must not contain control characters or line breaks."
        if ".." in re.split(r"[/\\]", text):
            return "Must not contain a `..` segment."
        if scheme := _SCHEME.match(text.strip()):
            if scheme[1].lower() not in SCHEMES:
                return f"A URL's scheme must be one of: {', '.join(SCHEMES)}. Write ./ before a file name with a colon."
        text = unquote(text)
    return None


class CreateAttachmentSchema(Schema):
    message_id = IdField()
    file_type = Text(
        longest=255,
        validate=[validate.Regexp(whole(MEDIA_TYPE_PATTERN), error="Not a media type such as image/png.")],
        metadata={"example": "image/png", "pattern": MEDIA_TYPE_PATTERN},
    )
    file_path = FilePathField()


class UploadFieldsSchema(Schema):
    """The fields of a form beside its file."""

    message_id = IdField(required=False)


class ContentQuerySchema(Schema):
    link = fields.String(
        metadata={
            "description": "Instead of a token: what `POST /chat/attachments/{attachment_id}/link` returned in `url`."
        }
    )


class CreateLinkSchema(Schema):
    json_schema = {"example": {"expires_in_s": 300, "single_use": True}}

    expires_in_s = WholeNumber(
        validate=validate.Range(1, 86_400),
        metadata={
            "example": 300,
            "description": "Seconds until the link expires; at most the setting `MAX_LINK_S` (an hour by default). "
            "Default: the setting `LINK_S` (five minutes).",
        },
    )
    single_use = Flag(
        load_default=False,
        metadata={"example": True, "description": "Whether the link answers one request only."},
    )


class LinkSchema(Output):
    url = fields.String(
        metadata={
            "example": "/chat/attachments/019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071/content?link=gAAAAABpJ…",
            "description": "The address of the content, which needs no token.",
        }
    )
    expires_at = Time(metadata={"example": "2026-11-24T09:30:00.123456Z"})
    single_use = fields.Boolean(metadata={"example": True})


class AttachmentSchema(Output):
    may_lack = ("file_name", "size_bytes", "sha256", "expires_at")

    id = IdField()
    message_id = IdField(
        allow_none=True,
        metadata={"description": "null for an upload that belongs to no message yet, until `expires_at`."},
    )
    file_type = fields.String(
        metadata={
            "example": "image/png",
            "description": "For an upload, detected from its content; for a path, as given by the client.",
        }
    )
    file_path = fields.String(
        metadata={
            "example": "uploads/receipt.png",
            "description": "For an upload, the path of its content in this API.",
        }
    )
    file_name = fields.String(
        metadata={"example": "receipt.png", "description": "The file name of an upload, without a folder."}
    )
    size_bytes = fields.Integer(metadata={"example": 48213, "description": "Only of uploads."})
    sha256 = fields.String(
        metadata={
            "example": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "description": "The hash of the content. Only present for uploads.",
        }
    )
    expires_at = Time(
        metadata={
            "example": "2026-11-24T09:30:00.123456Z",
            "description": "When an upload that belongs to no message is deleted.",
        }
    )
    created_at = Time()
