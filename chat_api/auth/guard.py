"""The blueprints' guards, which verify the token and set the caller, or respond with 401."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app, g, request

from ..errors import Forbidden, NotFound, Unauthorized, Unavailable
from ..server.slots import run_for
from ..users import service as users
from ..web.cors import is_preflight
from ..web.fields import is_uuid
from ..web.request_body import end_reads
from . import identity_provider, revocations, service, tokens

ACTING_ROLES = ("admin", "service")
# in the environ: whom the ticket or the link of this request names. Not in `g`, which may be older than the request
TICKET_CALLER = "chat_api.ticket_caller"


@dataclass(slots=True)
class Caller:
    """Who sent the request, and on whose behalf."""

    user_id: str  # whose data the request is about
    role: str  # of the sender: acting for an admin makes nobody an admin
    actor_id: str  # who sent it
    login_id: str | None = None  # None for a personal access token or an identity provider's token
    token_id: str | None = None  # of the personal access token that it was sent with
    proved_at: float | None = None  # when the identity provider saw the password, or made its token

    @property
    def is_script(self) -> bool:
        """Whether it was sent with a personal access token."""
        return self.token_id is not None

    @property
    def may_act_for_others(self) -> bool:
        """Whether the sender may name another user as owner."""
        return self.role in ACTING_ROLES

    @property
    def sender(self) -> str:
        """Who sent the request, with which kind of token: those who may get each other's responses."""
        kind = "script" if self.is_script else "login" if self.login_id else "identity provider"
        return f"{self.actor_id} {kind}"

    def owner(self, user_id: str) -> str:
        """The owner named in a body. Raises Forbidden if it is another user and the role does not allow that."""
        if user_id != self.user_id and (not self.may_act_for_others or self.user_id != self.actor_id):
            raise Forbidden(
                "`user_id` must be the user that this request is for: leave it out, or name that user."
            )
        return user_id

    def owner_in_path(self, user_id: str) -> str:
        """The owner named in a path. Raises NotFound instead: other users' objects do not exist for the caller."""
        try:
            return self.owner(user_id)
        except Forbidden:
            raise NotFound("object") from None


def require_caller() -> None:
    """The guard of blueprints below /chat and of dialects: requires a valid token, and acts for `X-Act-As`'s user."""
    environ = request.environ  # a proxy costs each time it is used
    if is_preflight(environ):
        return
    if TICKET_CALLER in environ:
        caller = environ[TICKET_CALLER]
    else:
        caller = identify(_bearer_token(environ))
        if "HTTP_X_ACT_AS" in environ:
            caller = _acting_for(caller, request.headers["X-Act-As"])
    _go_on_as(caller)


def require_account() -> None:
    """The guard of a caller's own account: requires a valid token, and refuses `X-Act-As`."""
    if is_preflight(request.environ):
        return
    caller = identify(bearer_token())
    if "X-Act-As" in request.headers:
        raise Forbidden(
            "X-Act-As can't be used for accounts, only below /chat, /v1 and the path of the AI SDK."
        )
    _go_on_as(caller)


def _go_on_as(caller: Caller) -> None:
    """From here on the request is this caller's, and one of those that their user may have running."""
    g.caller = caller
    end_reads()
    run_for(caller.user_id)


def require_password_login() -> Caller:
    """The caller, who must not use a personal access token. Raises Forbidden."""
    if g.caller.is_script:
        raise Forbidden("A personal access token can't manage the account, tokens or invitations; log in.")
    return g.caller


def require_owner(body: dict[str, Any]) -> None:
    """Raise Forbidden if the `user_id` of a body is not one that the caller may name."""
    g.caller.owner(body["user_id"])


def caller() -> Caller:
    """The caller of this request, in a blueprint with a guard."""
    return g.caller


def identify(token: str) -> Caller:
    """The caller with this token. Raises InvalidToken, or Unavailable if revocation can't be checked."""
    if token.startswith(tokens.PERSONAL_PREFIX):
        user_id, role, token_id = service.check_personal_token(token=token)
        return Caller(user_id, role, user_id, token_id=token_id)
    if identity_provider.is_external_token(token):
        user_id, role, proved_at = identity_provider.check_external_token(token)
        return Caller(user_id, role, user_id, proved_at=proved_at)
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    if not app.config["LOCAL_ACCOUNTS"]:
        raise tokens.InvalidToken()
    claims = tokens.read_token(token, kind="access", secret=app.config["JWT_SECRET_KEY"])
    if revocations.is_revoked(claims["sid"], app):
        raise tokens.InvalidToken()
    return Caller(claims["sub"], claims["role"], claims["sub"], claims["sid"])


def later_check() -> Callable[[], None]:
    """A check for streams, which outlive their request: it raises InvalidToken once the token was revoked.

    A token that merely expires does not end what began before. Nor does a database that is away for a moment.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    sender = caller()

    def check() -> None:
        with app.app_context(), suppress(Unavailable):
            require_valid(sender)

    return check


def require_valid(sender: Caller) -> None:
    """Raise InvalidToken if the login or the personal access token of a caller has ended since, or may act no more."""
    if sender.token_id is not None:
        role = service.require_token(user_id=sender.actor_id, token_id=sender.token_id)
        if sender.user_id != sender.actor_id and role not in ACTING_ROLES:
            raise tokens.InvalidToken()
    elif sender.login_id is not None and revocations.is_revoked(sender.login_id):
        raise tokens.InvalidToken()


def require_not_ended(sender: Caller) -> None:
    """As `require_valid`, for what may outlive the access token that it was made with."""
    if sender.login_id is not None:
        service.require_login(user_id=sender.actor_id, login_id=sender.login_id)
    else:
        require_valid(sender)


def bearer_token() -> str:
    """The token of the Authorization header (RFC 6750 section 2.1; the scheme is case-insensitive)."""
    return _bearer_token(request.environ)


def _bearer_token(environ: Mapping[str, Any]) -> str:
    header = environ.get("HTTP_AUTHORIZATION")
    if not header:
        raise Unauthorized("Send an access token: Authorization: Bearer <token>.")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Send an access token: Authorization: Bearer <token>.")
    return token.strip()


def _acting_for(sender: Caller, user_id: str) -> Caller:
    user_id = user_id.strip().lower()
    if user_id == sender.user_id:
        return sender
    if not sender.may_act_for_others:
        raise Forbidden("Only an admin or a service account may use X-Act-As.")
    if not is_uuid(user_id):
        raise NotFound("user")
    users.require_user(user_id=user_id)
    return Caller(user_id, sender.role, sender.actor_id, sender.login_id, sender.token_id)
