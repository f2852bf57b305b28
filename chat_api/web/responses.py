"""Making responses: JSON by orjson, entity tags, and the headers that creating and conditional requests need."""

import hashlib
from typing import Any

import orjson
from flask import Response, current_app, request
from flask.json.provider import JSONProvider
from werkzeug.urls import iri_to_uri

from ..errors import PreconditionFailed
from .application import Response as WholeResponse

ORJSON_OPTIONS = orjson.OPT_UTC_Z
REVALIDATE = "private, no-cache"  # clients may cache it, but revalidate it each time
_REVALIDATE, _JSON = ("Cache-Control", REVALIDATE), ("Content-Type", "application/json")


class OrjsonProvider(JSONProvider):
    """Flask's JSON by orjson: times as RFC 3339 with a Z, no spaces, several times as fast."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return orjson.dumps(obj, option=ORJSON_OPTIONS).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return json_response(self._prepare_response_obj(args, kwargs))


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response of plain values."""
    return raw_json_response(orjson.dumps(content, option=ORJSON_OPTIONS), status, headers)


def raw_json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response whose body is already encoded."""
    if status == 200 and headers is None:
        return WholeResponse.whole(body, _JSON)
    return current_app.response_class(body, status, headers, content_type="application/json")


def location(path: str) -> dict[str, str]:
    """The Location header of a created object, from its path in this API."""
    root = request.script_root
    return {"Location": f"{iri_to_uri(root)}{path}" if root else path}


def entity_response(content: Any) -> Response:
    """One object with its ETag, or 304 where If-None-Match names it (RFC 9110 section 13.1.2)."""
    return raw_entity_response(orjson.dumps(content, option=ORJSON_OPTIONS))


def raw_entity_response(body: bytes) -> Response:
    """The same of an object whose JSON is encoded already."""
    etag = entity_tag(body)
    quoted = f'"{etag}"'
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(etag):
        return _without_content(304, {"ETag": quoted, "Cache-Control": REVALIDATE})
    return WholeResponse.whole(body, ("ETag", quoted), _REVALIDATE, _JSON)


def changed_response(content: Any) -> Response:
    """One object after a PATCH, with its new ETag."""
    body = orjson.dumps(content, option=ORJSON_OPTIONS)
    return raw_json_response(body, 200, {"ETag": f'"{entity_tag(body)}"'})


def require_match(content: Any) -> None:
    """Raise PreconditionFailed if If-Match does not name this object's ETag, or if `If-None-Match: *` is sent and the
    object exists (RFC 9110 sections 13.1.1 and 13.1.2).

    Tags are compared weakly (section 8.8.3.2): a proxy that compresses makes ours weak, and as they are hashes of all
    that is sent, equal ones mean the same object all the same. None stands for an object that does not exist: no
    If-Match names it, not even `*`.
    """
    if content is not None and request.if_none_match.star_tag:
        raise PreconditionFailed()
    if "If-Match" in request.headers:
        etag = entity_tag(orjson.dumps(content, option=ORJSON_OPTIONS))
        if content is None or not request.if_match.contains_weak(etag):
            raise PreconditionFailed()


def entity_tag(body: bytes) -> str:
    """The strong entity tag of a body."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def no_content() -> Response:
    """204."""
    return _without_content(204)


def _without_content(status: int, headers: dict[str, str] | None = None) -> Response:
    """A response without a body, and so without the Content-Type that Flask gives to all."""
    response = current_app.response_class(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response
