"""The last act of every creating view: commit once, whatever number of times the request arrives."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

from flask import Response, g, request

from ..database.session import db
from ..errors import InvalidInput
from ..users import service as users
from ..web.responses import raw_json_response
from . import service
from .service import Answer

View = Callable[..., Response]
Created = TypeVar("Created")
HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
_TAKES_KEY = "_takes_idempotency_key"


def commits_once(view: View | None = None, *, anonymous_field: str | None = None) -> Any:
    """Decorate a creating view, below its `arguments` and above its `response`: it commits the view's work.

    With an Idempotency-Key the answer is stored in the same transaction, and the same request gets it again. A
    request that is refused stores nothing. `anonymous_field` names the field of the body that says which
    account is meant where there is no caller yet.
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
    body: dict[str, Any], create: Callable[[], Created], answer: Callable[[Created], Response]
) -> tuple[Response, Created] | tuple[Response, None]:
    """As `commits_once`, for a view that goes on after the commit: create something, or find the first answer.

    `answer` makes the answer that is stored. Returns it with what was created now, None for a repeated request. No
    transaction is open then.
    """
    if not has_key():
        created = create()
        _commit()
        return answer(created), created
    result = _create_once(create, answer, [[body], {}], g.caller.user_id, is_anonymous=False)
    if result[1] is None:
        db.session.rollback()  # finding the answer has begun a transaction, which on SQLite would block writers
    return result


def _create_once(
    create: Callable[[], Created],
    answer: Callable[[Created], Response],
    content: Any,
    scope: str,
    *,
    is_anonymous: bool,
) -> tuple[Response, Created] | tuple[Response, None]:
    key_id = service.key_id_of(route=f"{request.method} {request.url_rule}", key=_key())
    fingerprint = service.fingerprint_of(content)
    with service.claim(service.claim_id_of(scope=scope, key_id=key_id)):
        owner = _account(scope) if is_anonymous else scope
        if owner is not None:
            first = service.find_answer(user_id=owner, key_id=key_id, fingerprint=fingerprint)
            if first is not None:
                return _replay(first), None
        created = create()
        response = answer(created)
        owner = owner or _account(scope)
        if owner is not None:
            first = Answer(response.status_code, response.get_data(), response.headers.get("Location"))
            service.keep_answer(user_id=owner, key_id=key_id, fingerprint=fingerprint, answer=first)
        _commit()
        return response, created


def _unchanged(response: Response) -> Response:
    return response


def has_key() -> bool:
    """Whether the request has an Idempotency-Key, so that `commits_once` has a transaction open around the view."""
    return "HTTP_IDEMPOTENCY_KEY" in request.environ


def check_key() -> None:
    """Refuse a malformed key where nothing is created, so that the same header is as good everywhere."""
    if HEADER in request.headers:
        _key()


def _commit() -> None:
    if db.session.registry.has():  # else the view has committed by itself, and says so
        db.session.commit()


def _replay(answer: Answer) -> Response:
    headers = {"Idempotency-Replayed": "true"}
    if answer.location:
        headers["Location"] = answer.location
    return raw_json_response(answer.body, answer.status, headers)


def _account(email: str) -> str | None:
    user = users.find_by_email(email=email)
    return user.id if user else None


def _key() -> str:
    key = request.headers[HEADER]
    if not (1 <= len(key) <= MAX_KEY_LENGTH and all(" " <= character <= "~" for character in key)):
        raise InvalidInput({HEADER: ["Must be 1 to 255 printable ASCII characters."]})
    return key
