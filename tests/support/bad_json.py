"""Bodies that no endpoint reads as a JSON object, and bodies without an end."""

import io
from typing import Any

JSON = "application/json"
NOT_JSON = {
    "empty": b"",
    "blank": b" \n",
    "cut off": b'{"title": "x"',
    "no value": b'{"title": }',
    "single quotes": b"{'title': 'x'}",
    "comma at the end": b'{"title": "x",}',
    "comment": b'{"title": "x"} // mine',
    "two values": b'{"title": "x"}{}',
    "unknown word": b"undefined",
    "form": b"title=x",
    "line break in a string": b'{"title": "a\nb"}',
    "NUL byte": b'{"title": "a\x00b"}',
    "not UTF-8": b'{"title": "\xff\xfe"}',
    "overlong UTF-8": b'{"title": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "UTF-16": '{"title": "x"}'.encode("utf-16"),
    "BOM in the middle": b'{\xef\xbb\xbf"title": "x"}',
    "two BOMs": b'\xef\xbb\xbf\xef\xbb\xbf{"title": "x"}',
    "BOM alone": b"\xef\xbb\xbf",
    "NaN": b'{"title": NaN}',
    "Infinity": b'{"title": [Infinity, -Infinity]}',
    "number of 5,000 digits": b'{"title": ' + b"9" * 5000 + b"}",
    "name twice": b'{"title": "a", "title": "b"}',
    "name twice inside": b'{"title": {"a": 1, "a": 1}}',
    "escaped name twice": b'{"title": "a", "titl\\u0065": "b"}',
    "30,000 arrays": b"[" * 30_000,
    "30,000 closed arrays": b"[" * 30_000 + b"]" * 30_000,
    "6,000 objects": b'{"title":' * 6_000 + b"1" + b"}" * 6_000,
    "array": b"[]",
    "array of an object": b'[{"title": "x"}]',
    "string": b'"title"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
}
NOT_AS_JSON: dict[str, tuple[str | None, dict[str, str]]] = {
    "none": (None, {}),
    "text": ("text/plain", {}),
    "form": ("application/x-www-form-urlencoded", {}),
    "multipart": ("multipart/form-data; boundary=x", {}),
    "like json": ("application/jsonp", {}),
    "suffix": ("application/merge-patch+json", {}),
    "two": ("application/json, text/plain", {}),
    "latin-1": ("application/json; charset=latin-1", {}),
    "utf-16": ("application/json; charset=utf-16", {}),
    "gzip": (JSON, {"Content-Encoding": "gzip"}),
    "unknown coding": (JSON, {"Content-Encoding": "rot13"}),
    "nonsense": ("@", {}),
}


class EndlessBody(io.RawIOBase):
    """A body without an end that counts what is read of it."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b" " * len(buffer)
        self.read_bytes += len(buffer)
        return len(buffer)

    def with_length(self, length: int) -> dict[str, Any]:
        return {"wsgi.input": self, "CONTENT_LENGTH": str(length)}

    def in_chunks(self) -> dict[str, Any]:
        return {"wsgi.input": self, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
