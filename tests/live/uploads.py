"""Uploads to the running service, of files that need not be in memory."""

import http.client
import json
from collections.abc import Iterable

from tests.live.client import PATIENCE_S, Answer, Person

BOUNDARY = b"live-test"
TYPE = "multipart/form-data; boundary=live-test"


def opening(name: str = "a.bin", message_id: str | None = None) -> bytes:
    """What precedes the file of a form."""
    field = b""
    if message_id is not None:
        field = b'--%b\r\nContent-Disposition: form-data; name="message_id"\r\n\r\n%b\r\n' % (
            BOUNDARY,
            message_id.encode(),
        )
    return field + b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % (
        BOUNDARY,
        name.encode(),
    )


CLOSING = b"\r\n--%b--\r\n" % BOUNDARY


def send_file(
    person: Person, content: bytes | Iterable[bytes], size_bytes: int | None = None, **fields: str
) -> Answer:
    """Send a file in a connection of its own; one of chunks with its size, or else chunked."""
    if isinstance(content, bytes):
        content, size_bytes = [content], len(content)
    head = opening(**fields)
    headers = {"Content-Type": TYPE, "Authorization": f"Bearer {person.token}"}
    if size_bytes is not None:
        headers["Content-Length"] = str(len(head) + size_bytes + len(CLOSING))
    connection = http.client.HTTPConnection("127.0.0.1", person.server.port, timeout=PATIENCE_S)
    try:
        body = (chunk for part in ([head], content, [CLOSING]) for chunk in part)
        try:
            connection.request("POST", "/chat/attachments", body, headers, encode_chunked=size_bytes is None)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has been refused before all was sent
        response = connection.getresponse()
        raw = response.read()
        return Answer(response.status, response.headers, json.loads(raw) if raw else None)
    finally:
        connection.close()
