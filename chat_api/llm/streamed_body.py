"""The body of a request with contents of files in it: encoded while it is sent, so that it is never in memory.

The fields are serialized with a mark wherever an `EncodedContent` stands. What is between the marks is sent as it is,
and the contents are read and encoded block by block in their turn.
"""

import base64
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from .error_codes import ATTACHMENT_UNREADABLE
from .errors import ProviderError
from .parts import EncodedContent

BLOCK_BYTES = 48 * 1024  # a multiple of three, so that blocks are encoded one by one


class StreamedBody:
    """A body of a known length that may be sent more than once."""

    def __init__(self, texts: list[bytes], contents: list[EncodedContent]) -> None:
        """`texts` are what is before, between and after the contents."""
        self._texts, self._contents = texts, contents
        self._length = sum(map(len, texts)) + sum(content.encoded_bytes for content in contents)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        """Its bytes. Raises EgressError where a content can't be read, or is no longer as it was."""
        yield self._texts[0]
        for content, text in zip(self._contents, self._texts[1:], strict=True):
            yield from _encoded(content)
            yield text


def serialized(fields: Mapping[str, Any]) -> bytes | StreamedBody:
    """The fields as JSON. Their texts can't contain the mark: nobody knows it before."""
    contents: list[EncodedContent] = []
    mark = secrets.token_hex(16)

    def marked(value: object) -> str:
        if not isinstance(value, EncodedContent):
            raise TypeError(f"{type(value).__name__} is no part of a request.")
        contents.append(value)
        return f"{value.prefix}{mark}"

    content = orjson.dumps(fields, default=marked, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    return StreamedBody(content.split(mark.encode()), contents) if contents else content


def described(value: Any) -> Any:
    """A value of a body with each content described instead of encoded, for a preview."""
    if isinstance(value, EncodedContent):
        return value.description()
    if isinstance(value, dict):
        return {name: described(item) for name, item in value.items()}
    if isinstance(value, list):
        return [described(item) for item in value]
    return value


def _encoded(encoded: EncodedContent) -> Iterator[bytes]:
    content = encoded.content
    remaining, rest = content.size_bytes, b""
    try:
        for block in content.blocks():
            remaining -= len(block)
            if remaining < 0:
                break
            joined = rest + block
            whole = len(joined) - len(joined) % 3
            rest = joined[whole:]
            yield base64.b64encode(joined[:whole])
    except OSError as error:
        raise _unreadable() from error
    if remaining:
        raise _unreadable()
    yield base64.b64encode(rest)


def _unreadable() -> ProviderError:
    return ProviderError(
        "The content of an attachment could not be read, so the request was not completed.",
        code=ATTACHMENT_UNREADABLE,
    )
