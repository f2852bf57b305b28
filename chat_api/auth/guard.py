"""Who calls: each blueprint's guard verifies the token and sets the caller, or answers 401."""

from dataclasses import dataclass

from flask import current_app, g, request

from ..errors import Forbidden, NotFound, Unauthorized
from ..users import service as users
from ..web.fields import is_uuid
from . import identity_provider, revocations, service, tokens

ACTING_ROLES = ("admin", "service")


@dataclass(slots=True)
class Caller:
    """Who sent the request, and for whom it acts."""

    user_id: str  # whose data it is about
    role: str  # what the sender may do; acting for an admin makes nobody an admin
    actor_id: str  # who sent it
    login_id: str | None = None  # None for a personal access token or an identity provider's token
    is_script: bool = False  # it came with a personal access token

    @property
    def may_act_for_others(self) -> bool:
        """Whether it may name another user as owner."""
        return self.role in ACTING_ROLES

    def owner(self, user_id: str) -> str:
        """The owner that a body names. Raises Forbidden where it is somebody else and the role does not allow it."""
        if user_id != self.user_id and (not self.may_act_for_others or self.user_id != self.actor_id):
            raise Forbidden("`user_id` is not your own.")
        return user_id

    def owner_in_path(self, user_id: str) -> str:
        """The owner that a path names: somebody else's objects do not exist for the caller."""
        try:
            return self.owner(user_id)
        except Forbidden:
            raise NotFound("object") from None


def require_caller() -> None:
    """The guard of blueprints below /chat: a valid token, acting for whom `X-Act-As` says."""
    caller = identify(bearer_token())
    if "HTTP_X_ACT_AS" in request.environ:
        caller = _acting_for(caller, request.headers["X-Act-As"])
    g.caller = caller


def require_account() -> None:
    """The guard of a caller's own account: as above, but nobody acts for another here."""
    g.caller = identify(bearer_token())
    if "X-Act-As" in request.headers:
        raise Forbidden("X-Act-As works below /chat; an account is its user's own.")


def require_password_login() -> Caller:
    """The caller, if it can change the account: a script's token can't. Raises Forbidden."""
    if g.caller.is_script:
        raise Forbidden("A personal access token can't change the account; log in.")
    return g.caller


def caller() -> Caller:
    """The caller of this request, behind a guard."""
    return g.caller


def identify(token: str) -> Caller:
    """Whose valid token this is. Raises InvalidToken, or Unavailable where revocation can't be checked."""
    if token.startswith(tokens.PERSONAL_PREFIX):
        user_id, role = service.check_personal_token(token)
        return Caller(user_id, role, user_id, is_script=True)
    if identity_provider.issued(token):
        user_id, role = identity_provider.check(token)
        return Caller(user_id, role, user_id)
    if not current_app.config["LOCAL_ACCOUNTS"]:
        raise tokens.InvalidToken()
    claims = tokens.read_token(token, kind="access")
    if revocations.is_revoked(claims["sid"]):
        raise tokens.InvalidToken()
    return Caller(claims["sub"], claims["role"], claims["sub"], claims["sid"])


def bearer_token() -> str:
    """The token of the Authorization header (RFC 6750 section 2.1; the scheme's case does not count)."""
    header = request.environ.get("HTTP_AUTHORIZATION")
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
    return Caller(user_id, sender.role, sender.actor_id, sender.login_id, sender.is_script)
