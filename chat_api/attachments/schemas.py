"""The schemas of attachments."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from marshmallow import Schema, ValidationError, fields, validate

from ..web.fields import IdField, Output, Text, Time, whole
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


class AttachmentSchema(Output):
    id = IdField()
    message_id = IdField()
    file_type = fields.String(metadata={"example": "image/png"})
    file_path = fields.String(metadata={"example": "uploads/receipt.png"})
    created_at = Time()
