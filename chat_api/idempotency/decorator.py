"""Commits a creating view's work once, however many times the request arrives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar

import orjson
from flask import Response, g, request

from ..database.session import db
from ..errors import InvalidInput, NotFound, ResponseGone
from ..users import service as users
from ..users.email_addresses import normalized_email
from ..web.responses import json_response, raw_json_response
from . import service
from .retries import Attempt
from .service import Claim, StoredResponse

# of bodies, added since 0.1.0
LATER_FIELDS = frozenset(
    {
        "api_endpoint",
        "attachment_ids",
        "auth",
        "background",
        "catalog",
        "current_password",
        "extra_body",
        "headers",
        "invitation",
        "metadata",
        "request_options",
        "slug",
    }
)
View = Callable[..., Response]
Created = TypeVar("Created")
HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
MAX_STORED_BYTES = 16 * 1024  # of a response; of a larger one a reference to what it holds is stored
RETRY_COUNT = "X-Stainless-Retry-Count"
MAX_RETRY_DIGITS = 3
# what a request may say elsewhere than in its path and body
HEADERS_OF_REQUESTS = ("X-Conversation-Id",)
ANONYMOUS = "anonymous"
_TAKES_KEY = "_takes_idempotency_key"


@dataclass(frozen=True)
class LongFields:
    """The fields of a response that may be long, never change, and can be read again. The first is always there."""

    names: tuple[str, ...]
    # the object, by the owner's id and its own. Raises NotFound where it is gone
    read: Callable[[str, str], Mapping[str, Any]]


def commits_once(
    view: View | None = None,
    *,
    check: Callable[..., None] | None = None,
    anonymous_field: str | None = None,
    secret_fields: tuple[str, ...] = (),
    long_fields: LongFields | None = None,
) -> Any:
    """Decorate a creating view, below its `arguments` and above its `response`, to commit the view's work.

    With an Idempotency-Key the response is stored in the same transaction and replayed to the same request. A
    request that fails stores nothing.

    `check` gets the view's arguments and refuses callers who may not make this request. It runs before a response is
    replayed, and outside a transaction, so all that the view refuses by who calls belongs there. `anonymous_field`
    names the field of the body that identifies the account when there is no caller yet. `secret_fields` name
    the fields of the response that are sent once: they are not stored, and null in a replayed response. `long_fields`
    are not stored either where they make the response large: a replay reads them from the object that was created.
    """
    if view is None:
        return partial(
            commits_once,
            check=check,
            anonymous_field=anonymous_field,
            secret_fields=secret_fields,
            long_fields=long_fields,
        )

    @wraps(view)
    def committed(*args: Any, **kwargs: Any) -> Response:
        if has_key():
            _key()
        if check is not None:
            check(*args, **kwargs)
        create = partial(view, *args, **kwargs)
        if not has_key():
            response = create()
            _commit()
            return response
        response, _ = _create_once(
            create,
            _unchanged,
            _claim_of_request(args[0], anonymous_email=args[0].get(anonymous_field)),
            secret_fields=secret_fields,
            long_fields=long_fields,
        )
        return response

    return accepts_key(committed)


def accepts_key(view: View) -> View:
    """Mark a view that handles Idempotency-Key, for its documentation. `commits_once` does so by itself."""
    setattr(view, _TAKES_KEY, True)
    return view


def takes_idempotency_key(view: Callable[..., Any]) -> bool:
    """Whether a view, however decorated, handles Idempotency-Key."""
    return hasattr(view, _TAKES_KEY)


def create_once(
    body: dict[str, Any],
    create: Callable[[], Created],
    respond: Callable[[Created], Response],
    *,
    long_fields: LongFields | None = None,
) -> tuple[Response, Created] | tuple[Response, None]:
    """As `commits_once`, for a view that does more before or after the transaction: create something, or find the
    first response.

    `respond` makes the response to store. Returns it with what was created, or None for a repeated request. No
    transaction is open afterwards.
    """
    if not has_key():
        created = create()
        _commit()
        return respond(created), created
    result = _create_once(create, respond, _claim_of_request(body), long_fields=long_fields)
    if result[1] is None:
        db.session.rollback()  # finding the response began a transaction, which on SQLite would block writers
    return result


def _claim_of_request(body: Mapping[str, Any], *, anonymous_email: str | None = None) -> Claim:
    """What this request claims.

    Whoever sends a request, for whom and with which kind of token, has keys of their own, so a response never goes to
    somebody who might have been refused. Nor does it after a change of role, but then the key is known: the request is
    refused as a different one, instead of having a second effect.

    The first sender of a key has its response under the id that the release before this one looks for, so that a
    request may be repeated at either.
    """
    route, key = f"{request.method} {request.url_rule}", _key()
    if anonymous_email is not None:
        scope, sender, role = normalized_email(anonymous_email), ANONYMOUS, ANONYMOUS
    else:
        scope, sender, role = g.caller.user_id, g.caller.sender, g.caller.role
    return Claim(
        scope,
        service.key_id_of(route=route, key=key),
        service.key_id_of(route=route, key=key, sender=sender),
        sender,
        role,
        service.fingerprint_of(content=[[_as_earlier_releases(body)], request.view_args or {}]),
    )


def _as_earlier_releases(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request without the fields that were added since 0.1.0, where they are not given.

    A request may be repeated at the release before or after, which knows fewer fields or more: the same request must
    have the same fingerprint there.
    """
    return {name: value for name, value in body.items() if value or name not in LATER_FIELDS}


def _owner(claim: Claim) -> str | None:
    """The user who owns the response; None if nobody has registered this address."""
    return _account(claim.scope) if claim.sender == ANONYMOUS else claim.scope


def _create_once(
    create: Callable[[], Created],
    respond: Callable[[Created], Response],
    claim: Claim,
    *,
    secret_fields: tuple[str, ...] = (),
    long_fields: LongFields | None = None,
) -> tuple[Response, Created] | tuple[Response, None]:
    with service.lock_key(lock_id=service.lock_id_of(scope=claim.scope, key_id=claim.key_id)):
        owner = _owner(claim)
        stored = [] if owner is None else service.list_responses(user_id=owner, claim=claim)
        first = service.first_response(stored=stored, claim=claim)
        if first is not None and owner is not None:
            return _replay(first, owner, long_fields), None
        created = create()
        response = respond(created)
        owner = owner or _owner(claim)
        if owner is not None:
            service.store_response(
                user_id=owner,
                claim=claim,
                response=_storable(response, secret_fields, long_fields),
                is_key_taken=any(row.id == claim.key_id for row in stored),
            )
        _commit()
        return response, created


def _storable(
    response: Response, secret_fields: tuple[str, ...], long_fields: LongFields | None
) -> StoredResponse:
    """The response to replay, without its secrets, and without what would make it large."""
    body = response.get_data()
    if secret_fields:
        body = orjson.dumps(orjson.loads(body) | dict.fromkeys(secret_fields))
    elif long_fields is not None and len(body) > MAX_STORED_BYTES:
        content = orjson.loads(body)
        body = orjson.dumps(content | {name: None for name in long_fields.names if name in content})
    return StoredResponse(response.status_code, body, response.headers.get("Location"))


def _unchanged(response: Response) -> Response:
    return response


def has_key() -> bool:
    """Whether the request has an Idempotency-Key, and `commits_once` so a transaction open around the view."""
    return "HTTP_IDEMPOTENCY_KEY" in request.environ


def attempt_of_request() -> Attempt:
    """Which try of its client this request is; see `retries.py`."""
    text, user_id = request.headers.get(RETRY_COUNT, ""), g.caller.user_id
    if has_key() or not (text.isascii() and text.isdigit() and len(text) <= MAX_RETRY_DIGITS):
        return Attempt(user_id=user_id, count=None)
    named = [request.headers.get(name, "") for name in HEADERS_OF_REQUESTS]
    scope = "\x1f".join([g.caller.sender, request.method, request.path, *named])
    return Attempt(user_id=user_id, count=int(text), scope=scope)


def check_key() -> None:
    """Refuse a malformed key in a view that creates nothing, so that the header has one syntax everywhere."""
    if HEADER in request.headers:
        _key()


def _commit() -> None:
    if db.session.registry.has():  # otherwise the service has committed, as its name says
        db.session.commit()


def _replay(first: StoredResponse, owner: str, long_fields: LongFields | None) -> Response:
    headers = {"Idempotency-Replayed": "true"}
    if first.location:
        headers["Location"] = first.location
    content = orjson.loads(first.body) if long_fields else {}
    omitted = (
        [name for name, value in content.items() if value is None and name in long_fields.names]
        if long_fields
        else []
    )
    if not omitted or long_fields is None:
        return raw_json_response(first.body, first.status, headers)
    try:
        created = long_fields.read(owner, content["id"])
        content |= {name: created[name] for name in omitted}
    except NotFound:
        raise ResponseGone() from None
    return json_response(content, first.status, headers)


def _account(email: str) -> str | None:
    user = users.find_user_by_email(email=email)
    return user.id if user else None


def _key() -> str:
    key = request.headers[HEADER]
    if not (1 <= len(key) <= MAX_KEY_LENGTH and all(" " <= character <= "~" for character in key)):
        raise InvalidInput({HEADER: ["Must be 1 to 255 printable ASCII characters."]})
    return key
