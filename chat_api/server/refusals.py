"""Responses to requests that never reach the application, as problem+json like all errors of the API."""

import http
import json
import uuid
from collections.abc import Mapping
from typing import Any

from gunicorn.http import errors

# in this order, as some classes derive from others
_ANSWERS = (
    (TimeoutError, 408, "The request took too long to arrive."),
    ((errors.InvalidResponseHeader, errors.InvalidResponseHeaderName), 500, "The server failed."),
    (errors.ConfigurationProblem, 500, "The server failed."),
    (errors.LimitRequestLine, 414, "The request line is too long."),
    (errors.LimitRequestHeaders, 431, "The header fields are too large or too many."),
    (errors.ExpectationFailed, 417, "The only supported expectation is 100-continue."),
    (errors.UnsupportedTransferCoding, 501, "The only supported transfer coding is chunked."),
    (errors.ForbiddenProxyRequest, 403, "This address is not allowed to act as a proxy."),
    (errors.ParseException, 400, "The request is not well-formed HTTP."),
)


class Refusal:
    """A response as bytes, and the fields of its log line.

    Neither repeats the request, as gunicorn's do: a header line without a colon would put a token into the log.
    """

    def __init__(self, error: BaseException, address: Any) -> None:
        self.status, detail = _status_and_detail(error)
        request_id = str(uuid.uuid4())
        self.facts: Mapping[str, Any] = {
            "request_id": request_id,
            "status": self.status,
            "client": address[0] if address else "",
        }
        title = http.HTTPStatus(self.status).phrase
        problem = {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "code": title.lower().replace(" ", "_"),
            "detail": detail,
            "request_id": request_id,
        }
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {self.status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n"
        )
        self.answer = head.encode() + body


def _status_and_detail(error: BaseException) -> tuple[int, str]:
    for kind, status, detail in _ANSWERS:
        if isinstance(error, kind):
            return status, detail
    return 500, "The server failed."
