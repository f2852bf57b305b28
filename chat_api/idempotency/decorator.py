"""Commits a creating view's work once, however many times the request arrives."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

from flask import Response, g, request

from ..database.session import db
from ..errors import InvalidInput
from ..users import service as users
from ..web.responses import raw_json_response
from . import service
from .service import StoredResponse

View = Callable[..., Response]
Created = TypeVar("Created")
HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
_TAKES_KEY = "_takes_idempotency_key"


def commits_once(view: View | None = None, *, anonymous_field: str | None = None) -> Any:
    """Decorate a creating view, below its `arguments` and above its `response`, to commit the view's work.

    With an Idempotency-Key the response is stored in the same transaction and replayed to the same request. A
    request that fails stores nothing. `anonymous_field` names the field of the body that identifies the account
    when there is no caller yet.
    """
    if view is None:
        return lambda wrapped: commits_once(wrapped, anonymous_field=anonymous_field)

    @wraps(view)
    def committed(*args: Any, **kwargs: Any) -> Response:
        create = partial(view, *args, **kwargs)
        if not has_key():
            response = create()
            _commit()
            return response
        scope = args[0][anonymous_field].lower() if anonymous_field else g.caller.user_id
        response, _ = _create_once(
            create, _unchanged, [args, kwargs], scope, is_anonymous=bool(anonymous_field)
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
    body: dict[str, Any], create: Callable[[], Created], respond: Callable[[Created], Response]
) -> tuple[Response, Created] | tuple[Response, None]:
    """As `commits_once`, for a view that continues after the commit: create something, or find the first response.

    `respond` makes the response to store. Returns it with what was created, or None for a repeated request. No
    transaction is open afterwards.
    """
    if not has_key():
        created = create()
        _commit()
        return respond(created), created
    result = _create_once(create, respond, [[body], {}], g.caller.user_id, is_anonymous=False)
    if result[1] is None:
        db.session.rollback()  # finding the response began a transaction, which on SQLite would block writers
    return result


def _create_once(
    create: Callable[[], Created],
    respond: Callable[[Created], Response],
    content: Any,
    scope: str,
    *,
    is_anonymous: bool,
) -> tuple[Response, Created] | tuple[Response, None]:
    key_id = service.key_id_of(route=f"{request.method} {request.url_rule}", key=_key())
    fingerprint = service.fingerprint_of(content=content)
    with service.lock_key(lock_id=service.lock_id_of(scope=scope, key_id=key_id)):
        owner = _account(scope) if is_anonymous else scope
        if owner is not None:
            first = service.find_response(user_id=owner, key_id=key_id, fingerprint=fingerprint)
            if first is not None:
                return _replay(first), None
        created = create()
        response = respond(created)
        owner = owner or _account(scope)
        if owner is not None:
            first = StoredResponse(
                response.status_code, response.get_data(), response.headers.get("Location")
            )
            service.store_response(user_id=owner, key_id=key_id, fingerprint=fingerprint, response=first)
        _commit()
        return response, created


def _unchanged(response: Response) -> Response:
    return response


def has_key() -> bool:
    """Whether the request has an Idempotency-Key, and `commits_once` so a transaction open around the view."""
    return "HTTP_IDEMPOTENCY_KEY" in request.environ


def check_key() -> None:
    """Refuse a malformed key in a view that creates nothing, so that the header has one syntax everywhere."""
    if HEADER in request.headers:
        _key()


def _commit() -> None:
    if db.session.registry.has():  # otherwise the service has committed, as its name says
        db.session.commit()


def _replay(first: StoredResponse) -> Response:
    headers = {"Idempotency-Replayed": "true"}
    if first.location:
        headers["Location"] = first.location
    return raw_json_response(first.body, first.status, headers)


def _account(email: str) -> str | None:
    user = users.find_user_by_email(email=email)
    return user.id if user else None


def _key() -> str:
    key = request.headers[HEADER]
    if not (1 <= len(key) <= MAX_KEY_LENGTH and all(" " <= character <= "~" for character in key)):
        raise InvalidInput({HEADER: ["Must be 1 to 255 printable ASCII characters."]})
    return key
