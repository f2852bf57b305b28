"""Endpoints of accounts: /auth."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response

from ..database.bulk import with_rests
from ..database.session import db
from ..errors import Forbidden
from ..idempotency import commits_once
from ..operations.erasure import erase_account
from ..users import service as users
from ..users.models import User
from ..web.blueprint import Blueprint
from ..web.client_address import client_network
from ..web.pagination import IdPageSchema, Page, id_of, listing_response
from ..web.responses import location, no_content, require_match
from . import guard, invitations, revocations, service
from .decorator import throttled_by_address
from .models import Invitation, PersonalAccessToken
from .schemas import (
    ChangePasswordSchema,
    CreateInvitationSchema,
    CreateTokenSchema,
    EraseAccountSchema,
    InvitationSchema,
    LogInSchema,
    NewInvitationSchema,
    NewTokenSchema,
    RegisterWithInvitationSchema,
    TokenPairSchema,
    TokenSchema,
    UserSchema,
)
from .tokens import InvalidToken

public_blp = Blueprint("auth", __name__, url_prefix="/auth", description="Accounts: registration and login.")
blp = Blueprint(
    "account",
    __name__,
    url_prefix="/auth",
    description="The caller's account and personal access tokens.",
)
blp.before_request(guard.require_account)


def _require_recent_login(body: dict[str, Any]) -> None:
    """Raise Forbidden for a script, and for a login that began a while ago if the body has no password."""
    caller = guard.require_password_login()
    service.require_recent_login(
        user_id=caller.user_id,
        login_id=caller.login_id,
        proved_at=caller.proved_at,
        current_password=body["current_password"],
        network=client_network(),
    )


def _require_admin(body: dict[str, Any]) -> None:
    """Raise Forbidden for a script, and for everybody but an admin."""
    if guard.require_password_login().role != "admin":
        raise Forbidden("Only an admin may invite others.")


def _with_password_hash(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the view that registers to hash the password before it, outside of any transaction."""

    @wraps(view)
    def hashed(credentials: dict[str, Any]) -> Any:
        password_hash = service.hash_to_register(**credentials, network=client_network())
        return view(credentials, password_hash=password_hash)

    return hashed


@public_blp.route("/register", methods=["POST"])
@public_blp.problems(403)
@throttled_by_address("REGISTER_LIMIT_PER_ADDRESS")
@public_blp.arguments(RegisterWithInvitationSchema)
@_with_password_hash
@commits_once(anonymous_field="email")
@public_blp.response(201, UserSchema)
def register(credentials: dict[str, Any], *, password_hash: str) -> Any:
    """Create an account. The deployment decides whether that is open, needs an `invitation`, or is closed.

    The answer is the new account, without tokens: log in next. An address that is taken is 409.
    """
    user = service.register(
        email=credentials["email"], password_hash=password_hash, invitation=credentials["invitation"]
    )
    return user, location("/auth/me")


@public_blp.route("/login", methods=["POST"])
@public_blp.problems(401, 403)
@throttled_by_address("LOGIN_LIMIT_PER_ADDRESS")
@public_blp.arguments(LogInSchema)
@public_blp.response(200, TokenPairSchema)
def log_in(credentials: dict[str, str]) -> service.TokenPair:
    """Log in: get an access token and a refresh token.

    The access token is the bearer token of other requests and valid for `expires_in` seconds; the refresh token
    gets the next pair. An unknown address and a wrong password get the same 401. Too many attempts get 429.
    """
    pair = service.log_in(**credentials, network=client_network())
    db.session.commit()
    return pair


@public_blp.route("/refresh", methods=["POST"])
@public_blp.bearer_token
@public_blp.problems(403)
@public_blp.response(200, TokenPairSchema)
def refresh() -> service.TokenPair:
    """Exchange the refresh token (sent as the bearer token) for a new pair of tokens.

    Both tokens are new. Using a refresh token again later ends the login, because it may have been stolen.
    """
    pair = service.refresh(refresh_token=guard.bearer_token())
    db.session.commit()  # also if it was used before, which ends the login
    if pair is None:
        revocations.mark_changed()
        raise InvalidToken("This refresh token was used before, so its login has ended; log in again.")
    return pair


@blp.route("/logout", methods=["POST"])
@blp.response(204)
def log_out() -> Response:
    """Log out: both tokens of this login stop working within a second.

    Other logins and personal access tokens of the account stay.
    """
    caller = guard.caller()
    service.log_out(user_id=caller.user_id, login_id=caller.login_id)
    db.session.commit()
    revocations.mark_changed()
    return no_content()


@blp.route("/me", methods=["GET"])
@blp.links("create_conversation", status=200, body={"user_id": "id"})
@blp.response(200, UserSchema)
def get_me() -> User:
    """Get the caller's account.

    `role` says whether it is an admin or a service account.
    """
    return users.get_user(user_id=guard.caller().user_id)


@blp.route("/me", methods=["PATCH"])
@blp.arguments(ChangePasswordSchema)
@blp.response(200, UserSchema)
def update_me(passwords: dict[str, Any]) -> User:
    """Change the password. All other logins end, and all personal access tokens unless `keep_tokens` is true.

    Needs the current password. The tokens of this login stay valid.
    """
    caller = guard.require_password_login()
    user = service.update_password(
        user_id=caller.user_id, login_id=caller.login_id, network=client_network(), **passwords
    )
    require_match(UserSchema().dump(user))
    db.session.commit()
    revocations.mark_changed()
    return user


@blp.route("/me", methods=["DELETE"])
@blp.arguments(EraseAccountSchema, required=False)
@blp.response(204)
def delete_me(body: dict[str, Any]) -> Response:
    """Delete the account and all data that it owns.

    Needs `current_password`, or a login of the last minutes; then the body may be left out. From the beginning nobody
    can log in to the account any more. Large amounts of data are deleted in several transactions: after 503,
    or without a response, send the request again, with the same access token.
    """
    caller = guard.require_password_login()
    if not users.is_being_erased(user_id=caller.user_id):  # otherwise the login was recent when that began
        _require_recent_login(body)
    require_match(UserSchema().dump(users.get_user(user_id=caller.user_id)))
    db.session.rollback()  # on SQLite it holds the lock
    for _ in with_rests(erase_account(user_id=caller.user_id, keep_login_id=caller.login_id)):
        db.session.commit()
        revocations.mark_changed()
    return no_content()


@blp.route("/tokens", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, TokenSchema(many=True))
def list_tokens(query: dict[str, Any]) -> Response:
    """List the caller's personal access tokens, oldest first.

    At most `limit` of them; the header `Link` leads to the next page. The tokens themselves are not returned.
    """
    page = Page(**query)
    tokens = service.list_tokens(user_id=guard.caller().user_id, page=page)
    return listing_response(page, tokens, cursor=id_of, schema=TokenSchema(many=True))


@blp.route("/tokens", methods=["POST"])
@blp.links("get_token", "delete_token", token_id="id")  # noqa: S106 - a name, no secret
@blp.arguments(CreateTokenSchema)
@commits_once(check=_require_recent_login, secret_fields=("token",))
@blp.response(201, NewTokenSchema)
def create_token(body: dict[str, Any]) -> Any:
    """Create a personal access token for a script. Only this response contains the token itself.

    Needs `current_password`, or a login of the last minutes.
    """
    caller = guard.caller()
    row, token = service.create_token(
        user_id=caller.user_id,
        login_id=caller.login_id,
        name=body["name"],
        expires_in_days=body["expires_in_days"],
    )
    return {**TokenSchema().dump(row), "token": token}, location(f"/auth/tokens/{row.id}")


@blp.route("/tokens/<id:token_id>", methods=["GET"])
@blp.response(200, TokenSchema)
def get_token(token_id: str) -> PersonalAccessToken:
    """Get one of the caller's personal access tokens, without the token itself.

    It says when the token expires.
    """
    return service.get_token(user_id=guard.caller().user_id, token_id=token_id)


@blp.route("/tokens/<id:token_id>", methods=["DELETE"])
@blp.response(204)
def delete_token(token_id: str) -> Response:
    """Delete a personal access token: it stops working at once.

    Requests that are sent with it get 401.
    """
    user_id = guard.require_password_login().user_id
    token = service.get_token(user_id=user_id, token_id=token_id, lock=True)
    require_match(TokenSchema().dump(token))
    service.delete_token(token=token)
    db.session.commit()
    return no_content()


@blp.route("/invitations", methods=["GET"])
@blp.arguments(IdPageSchema, location="query")
@blp.response(200, InvitationSchema(many=True))
def list_invitations(query: dict[str, Any]) -> Response:
    """List the invitations that the caller has made, oldest first.

    At most `limit` of them; the header `Link` leads to the next page. The codes are not returned.
    """
    page = Page(**query)
    found = invitations.list_invitations(user_id=guard.caller().user_id, page=page)
    return listing_response(page, found, cursor=id_of, schema=InvitationSchema(many=True))


@blp.route("/invitations", methods=["POST"])
@blp.links("get_invitation", "delete_invitation", invitation_id="id")
@blp.arguments(CreateInvitationSchema)
@commits_once(check=_require_admin, secret_fields=("invitation", "url"))
@blp.response(201, NewInvitationSchema)
def create_invitation(body: dict[str, Any]) -> Any:
    """Invite one person to register, as an admin. Only this response contains the code and the link.

    The code can be used for one registration; with `email`, only by that address.
    """
    invitation, code = invitations.create_invitation(user_id=guard.caller().user_id, **body)
    content = {**InvitationSchema().dump(invitation), "invitation": code, "url": invitations.link_of(code)}
    return content, location(f"/auth/invitations/{invitation.id}")


@blp.route("/invitations/<id:invitation_id>", methods=["GET"])
@blp.response(200, InvitationSchema)
def get_invitation(invitation_id: str) -> Invitation:
    """Get one of the invitations that the caller has made.

    `used_at` says when somebody registered with it; it is null until then.
    """
    return invitations.get_invitation(user_id=guard.caller().user_id, invitation_id=invitation_id)


@blp.route("/invitations/<id:invitation_id>", methods=["DELETE"])
@blp.response(204)
def delete_invitation(invitation_id: str) -> Response:
    """Withdraw an invitation. Whoever registered with it keeps the account.

    Its code can't be used any more.
    """
    user_id = guard.require_password_login().user_id
    invitation = invitations.get_invitation(user_id=user_id, invitation_id=invitation_id, lock=True)
    require_match(InvitationSchema().dump(invitation))
    invitations.delete_invitation(invitation=invitation)
    db.session.commit()
    return no_content()
