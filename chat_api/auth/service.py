"""Accounts: registering, logging in and out, rotating refresh tokens, personal access tokens."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects import postgresql, sqlite

from ..database.columns import UTCDateTime, new_id, now, seconds_of
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from ..errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from ..users import service as users
from ..users.email_addresses import normalized_email
from ..users.models import User
from ..web.pagination import Listing, Page
from . import invitations, passwords, throttle, tokens
from .models import Login, PersonalAccessToken, RevokedLogin

REUSE_S = 10.0  # so long after its use a refresh token may be sent again
MAX_USED = 20  # refresh tokens of a login that are remembered for that
CLOCK_SKEW = timedelta(minutes=1)  # a revoked login is remembered a little longer than its tokens are valid

_PERSONAL_TOKEN = Statement(
    sa.select(User.role)
    .join(PersonalAccessToken, PersonalAccessToken.user_id == User.id)
    .where(
        PersonalAccessToken.user_id == sa.bindparam("user_id"),
        PersonalAccessToken.id == sa.bindparam("token_id"),
        PersonalAccessToken.secret_hash == sa.bindparam("secret_hash"),
        PersonalAccessToken.expires_at > sa.bindparam("moment", type_=UTCDateTime),
    )
)
_ROLE_OF_TOKEN = Statement(
    sa.select(User.role)
    .join(PersonalAccessToken, PersonalAccessToken.user_id == User.id)
    .where(
        PersonalAccessToken.user_id == sa.bindparam("user_id"),
        PersonalAccessToken.id == sa.bindparam("token_id"),
        PersonalAccessToken.expires_at > sa.bindparam("moment", type_=UTCDateTime),
    )
)
_LOGIN_LASTS = Statement(
    sa.select(Login.id).where(
        Login.user_id == sa.bindparam("user_id"),
        Login.id == sa.bindparam("login_id"),
        Login.expires_at > sa.bindparam("moment", type_=UTCDateTime),
    )
)
_LOGIN_BEGAN = Statement(
    sa.select(Login.created_at).where(
        Login.user_id == sa.bindparam("user_id"), Login.id == sa.bindparam("login_id")
    )
)


class RegistrationClosed(Forbidden):
    """Accounts are made by the operator only."""

    code = "registration_closed"

    def __init__(self) -> None:
        super().__init__("Registration is closed: ask the operator of this service for an account.")


class RecentLoginRequired(Forbidden):
    """The login is too old for what would outlive it, or can't be undone."""

    code = "recent_login_required"

    def __init__(self, minutes: int) -> None:
        super().__init__(
            f"The login is older than {minutes} minutes; send `current_password`, or log in again first."
        )


class TooManyTokens(Conflict):
    """The user has as many personal access tokens as one may have."""

    code = "too_many_tokens"

    def __init__(self) -> None:
        super().__init__(
            f"You already have {tokens.MAX_PERSONAL_TOKENS} personal access tokens; delete one first."
        )


@dataclass(frozen=True)
class TokenPair:
    """The tokens that a login or a refresh returns. `expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User
    token_type: str = "Bearer"  # noqa: S105 - RFC 6749 section 7.1


def require_local_accounts() -> None:
    """Raise Forbidden in a deployment whose accounts are those of an identity provider."""
    if not current_app.config["LOCAL_ACCOUNTS"]:
        raise Forbidden("Accounts of this deployment are managed by an identity provider; log in there.")


def require_registration() -> None:
    """Raise Forbidden where nobody can register at all."""
    require_local_accounts()
    if current_app.config["REGISTRATION"] == "closed":
        raise RegistrationClosed()


def hash_to_register(*, email: str, password: str, invitation: str | None, network: str) -> str:
    """The hash of the password of a new account. No transaction may be open: Argon2 takes long.

    Raises InvalidInput for a common password, Forbidden without an invitation where registration needs one.
    """
    require_registration()
    if password.lower() == normalized_email(email):
        raise InvalidInput({"password": ["Must not be your email address."]})
    if invitation is None and current_app.config["REGISTRATION"] == "invite":
        raise invitations.InvitationRequired()
    return _hash_new_password(password, network)


def register(*, email: str, password_hash: str, invitation: str | None) -> User:
    """Create an account, and use up the invitation if there is one.

    Raises Conflict for a taken address, Forbidden for an invitation that is not valid.
    """
    if invitation is not None:
        invitations.use_invitation(code=invitation, email=email)
    return users.create_user(email=email, password_hash=password_hash, role="user")


def register_with_role(*, email: str, password: str, role: str) -> User:
    """Create an account with this role: for the command line only, a request can't choose a role."""
    return users.create_user(email=email, password_hash=_hash_new_password(password, None), role=role)


def log_in(*, email: str, password: str, network: str) -> TokenPair:
    """Log in. Raises Unauthorized, the same for a wrong password and an unknown address."""
    require_local_accounts()
    attempt = {"account": normalized_email(email), "network": network}
    with passwords.hashing_slots.take(network):  # first: who gets none has not guessed
        throttle.count_password_attempt_and_commit(**attempt)
        # no transaction is open while Argon2 runs: on SQLite it would block all other writers
        user_id, password_hash = users.find_credentials(email=email)
        if not passwords.verify_password(password, password_hash) or user_id is None:
            raise Unauthorized("Email or password is wrong.")
        throttle.note_right_password_and_commit(**attempt)
        rehashed = passwords.hash_password(password) if passwords.needs_rehash(password_hash or "") else None
    try:
        user = users.lock_user(user_id=user_id)
    except NotFound:  # deleted while Argon2 ran
        raise Unauthorized("Email or password is wrong.") from None
    if (
        user.password_hash != password_hash
    ):  # changed while Argon2 ran, which ended all logins, so this one, too
        raise Unauthorized("Email or password is wrong.")
    user.password_hash = rehashed or password_hash
    return begin_login(user=user)


def refresh(*, refresh_token: str) -> TokenPair | None:
    """Exchange a refresh token for a new pair. None if it was used before, which ends the login.

    A second use means that somebody else has a copy, so the whole login ends (RFC 9700 section 4.14.2). Within seconds
    it means two tabs, or a response that got lost: then the refresh token of the new pair is the one of the first, so
    that there is still one that has not been used. The caller commits in all cases. Raises InvalidToken for a token
    that is malformed, expired or of a login that has ended.
    """
    require_local_accounts()
    claims = tokens.read_token(refresh_token, kind="refresh", secret=current_app.config["JWT_SECRET_KEY"])
    user_id, login_id = claims["sub"], claims["sid"]
    login = db.session.scalar(
        sa.select(Login).where(Login.user_id == user_id, Login.id == login_id).with_for_update()
    )
    if login is None or login.expires_at <= now():
        raise tokens.InvalidToken()
    used = [use for use in orjson.loads(login.used_refresh_tokens or "[]") if time.time() - use[1] < REUSE_S]
    if claims["jti"] == login.refresh_token_id:
        used.append([claims["jti"], time.time()])
        login.refresh_token_id = new_id()
        login.used_refresh_tokens = orjson.dumps(used[-MAX_USED:]).decode()
    elif claims["jti"] not in [token_id for token_id, _ in used]:
        end_logins(user_id=user_id, login_id=login_id)
        return None
    return _issue(users.get_user(user_id=user_id), login)


def log_out(*, user_id: str, login_id: str | None) -> None:
    """End the caller's login. Raises Forbidden for None, a token without a login."""
    if login_id is None:
        raise Forbidden(
            "This token does not belong to a login of this service: delete a personal access token, or log out "
            "at the identity provider."
        )
    end_logins(user_id=user_id, login_id=login_id)


def end_logins(*, user_id: str, login_id: str | None = None, keep_login_id: str | None = None) -> None:
    """End one login of a user, or all but one: every worker refuses their tokens within a second."""
    delete = sa.delete(Login).where(Login.user_id == user_id).returning(Login.id)
    if login_id is not None:
        delete = delete.where(Login.id == login_id)
    if keep_login_id is not None:
        delete = delete.where(Login.id != keep_login_id)
    _revoke(db.session.scalars(delete).all())


def _revoke(login_ids: Sequence[str]) -> None:
    """Have every worker refuse the tokens of these logins within a second."""
    moment = now()
    expires_at = moment + _access_token_lifetime() + CLOCK_SKEW
    ended = [{"login_id": id_, "revoked_at": moment, "expires_at": expires_at} for id_ in login_ids]
    if ended:  # one may be revoked already: its token is obeyed for another second, and may erase the account
        insert = (postgresql if is_postgres(db.engine) else sqlite).insert(RevokedLogin)
        db.session.execute(insert.values(ended).on_conflict_do_nothing())
    db.session.execute(sa.delete(RevokedLogin).where(RevokedLogin.expires_at <= moment))
    db.session.flush()


def check_password(*, user_id: str, password: str, network: str) -> str:
    """The hash of the user's password, if this is it. Raises Forbidden if not.

    Guessing is throttled like logging in. No transaction may be open: Argon2 takes long.
    """
    attempt = {"account": user_id, "network": network}
    with passwords.hashing_slots.take(network):
        throttle.count_password_attempt_and_commit(**attempt)
        password_hash = users.find_password_hash(user_id=user_id)
        if password_hash is None:
            raise Forbidden("This account has no password here: it logs in with its identity provider.")
        if not passwords.verify_password(password, password_hash):
            raise Forbidden("`current_password` is wrong.")
    throttle.note_right_password_and_commit(**attempt)
    return password_hash


def update_password(
    *,
    user_id: str,
    current_password: str,
    password: str,
    login_id: str | None,
    keep_tokens: bool,
    network: str,
) -> User:
    """Set a new password, and end all other logins and, unless they are kept, the personal access tokens.

    Raises Forbidden if the current password is wrong.
    """
    password_hash = check_password(user_id=user_id, password=current_password, network=network)
    new_hash = _hash_new_password(password, network)
    user = users.lock_user(user_id=user_id)
    if user.password_hash != password_hash:  # changed while Argon2 ran
        raise Forbidden("`current_password` is wrong.")
    user.password_hash = new_hash
    end_logins(user_id=user_id, keep_login_id=login_id)
    if not keep_tokens:
        db.session.execute(sa.delete(PersonalAccessToken).where(PersonalAccessToken.user_id == user_id))
    return user


def begin_erasure(*, user_id: str, keep_login_id: str | None = None) -> None:
    """Take an account's credentials and end its logins, so that it can only be erased. Raises NotFound.

    The user is locked first: a login that begins at the same time either ends here, or finds no password. Access
    tokens of `keep_login_id` stay valid, its refresh token does not.
    """
    users.lock_user(user_id=user_id)
    users.remove_credentials(user_id=user_id)
    end_logins(user_id=user_id, keep_login_id=keep_login_id)
    for model in (Login, PersonalAccessToken):
        db.session.execute(sa.delete(model).where(model.user_id == user_id))


def end_erasure(*, login_id: str | None) -> None:
    """End the login that was kept, now that its user is gone."""
    if login_id is not None:
        _revoke([login_id])


def set_role(*, email: str, role: str) -> User:
    """Change a user's role, and end their logins, whose tokens contain the old one.

    Personal access tokens have the role of today, so they expire as soon as new ones of this role would.
    """
    user = users.lock_user(user_id=users.get_user_by_email(email=email).id)
    user.role = role
    end_logins(user_id=user.id)
    latest = now() + timedelta(days=tokens.MAX_PERSONAL_DAYS[role])
    own = (PersonalAccessToken.user_id == user.id, PersonalAccessToken.expires_at > latest)
    db.session.execute(sa.update(PersonalAccessToken).where(*own).values(expires_at=latest))
    return user


def list_tokens(*, user_id: str, page: Page) -> Listing[PersonalAccessToken]:
    """A page of the user's tokens, oldest first."""
    own = sa.select(PersonalAccessToken).where(PersonalAccessToken.user_id == user_id)
    query = page.sort(page.narrow(own, PersonalAccessToken.id), PersonalAccessToken.id)
    return page.listing(list(db.session.scalars(query)))


def require_recent_login(
    *, user_id: str, login_id: str | None, proved_at: float | None, current_password: str | None, network: str
) -> None:
    """Refuse somebody who may only have copied an access token: for what outlives it, or can't be undone.

    Either the password is right, or it was given in the last minutes: to the login, or to the identity provider at
    `proved_at`. Raises Forbidden. No transaction may be open.
    """
    if current_password is not None:
        check_password(user_id=user_id, password=current_password, network=network)
        return
    if login_id is not None:
        login = _LOGIN_BEGAN.first(user_id=user_id, login_id=login_id)
        if login is None:  # it has just ended
            raise tokens.InvalidToken()
        proved_at = seconds_of(login[0])
    minutes = current_app.config["RECENT_LOGIN_MINUTES"]
    if proved_at is None or time.time() - proved_at > minutes * 60:
        raise RecentLoginRequired(minutes)


def create_token(
    *, user_id: str, login_id: str | None, name: str, expires_in_days: int
) -> tuple[PersonalAccessToken, str]:
    """Create a personal access token: its row, and the token itself, which is not stored.

    Raises InvalidInput for a lifetime that is too long for the user's role, Conflict if the user has too many tokens,
    NotFound if the user was deleted, InvalidToken if the login has ended.
    """
    user = users.lock_user(user_id=user_id)
    _require_login(user_id=user_id, login_id=login_id)
    longest = tokens.MAX_PERSONAL_DAYS[user.role]
    if expires_in_days > longest:
        raise InvalidInput({"expires_in_days": [f"Must be at most {longest} for the role `{user.role}`."]})
    moment = now()
    _require_room_for_token(user_id=user_id, moment=moment)
    token, token_id, secret_hash = tokens.make_secret(tokens.PERSONAL_PREFIX, user_id=user_id)
    row = PersonalAccessToken(
        user_id=user_id,
        id=token_id,
        name=name,
        secret_hash=secret_hash,
        expires_at=moment + timedelta(days=expires_in_days),
        created_at=moment,
    )
    db.session.add(row)
    db.session.flush()
    return row, token


def _require_login(*, user_id: str, login_id: str | None) -> None:
    """Raise InvalidToken if this login of a locked user has ended: by a new password that ended all tokens, say."""
    if login_id is not None:
        own = sa.select(Login.id).where(Login.user_id == user_id, Login.id == login_id)
        if db.session.scalar(own) is None:
            raise tokens.InvalidToken()


def _require_room_for_token(*, user_id: str, moment: datetime) -> None:
    """Delete the expired tokens of a locked user. Raises Conflict if as many as one may have are left."""
    own = PersonalAccessToken.user_id == user_id
    db.session.execute(sa.delete(PersonalAccessToken).where(own, PersonalAccessToken.expires_at <= moment))
    count = sa.select(sa.func.count()).select_from(PersonalAccessToken).where(own)
    if (db.session.scalar(count) or 0) >= tokens.MAX_PERSONAL_TOKENS:
        raise TooManyTokens()


def count_tokens(*, user_id: str) -> int:
    """How many personal access tokens the user has, without those that have expired."""
    own = (PersonalAccessToken.user_id == user_id, PersonalAccessToken.expires_at > now())
    return db.session.scalar(sa.select(sa.func.count()).select_from(PersonalAccessToken).where(*own)) or 0


def get_token(*, user_id: str, token_id: str, lock: bool = False) -> PersonalAccessToken:
    """One of the user's tokens. With `lock` nobody else can delete it until the transaction ends.

    Raises NotFound.
    """
    own = (PersonalAccessToken.user_id == user_id, PersonalAccessToken.id == token_id)
    query = sa.select(PersonalAccessToken).where(*own)
    token = db.session.scalar(query.with_for_update() if lock else query)
    if token is None:
        raise NotFound("token")
    return token


def delete_token(*, token: PersonalAccessToken) -> None:
    """Delete a locked token: it is refused from the next request on."""
    db.session.delete(token)
    db.session.flush()


def require_token(*, user_id: str, token_id: str) -> str:
    """The role of the user, who still has this personal access token. Raises InvalidToken."""
    row = _ROLE_OF_TOKEN.first(user_id=user_id, token_id=token_id, moment=now())
    if row is None:
        raise tokens.InvalidToken()
    return str(row[0])


def require_login(*, user_id: str, login_id: str) -> None:
    """Raise InvalidToken if this login has ended, however long ago: revocations are forgotten with its tokens."""
    if _LOGIN_LASTS.first(user_id=user_id, login_id=login_id, moment=now()) is None:
        raise tokens.InvalidToken()


def check_personal_token(*, token: str) -> tuple[str, str, str]:
    """User id, role and token id of a personal access token. Raises InvalidToken."""
    user_id, token_id, secret_hash = tokens.read_secret(tokens.PERSONAL_PREFIX, token)
    row = _PERSONAL_TOKEN.first(user_id=user_id, token_id=token_id, secret_hash=secret_hash, moment=now())
    if row is None:
        raise tokens.InvalidToken()
    return user_id, row[0], token_id


def begin_login(*, user: User) -> TokenPair:
    """Begin a login of an authenticated user."""
    ends_at = now() + timedelta(days=current_app.config["LOGIN_MAX_DAYS"])
    login = Login(user_id=user.id, id=new_id(), refresh_token_id=new_id(), created_at=now(), ends_at=ends_at)
    db.session.add(login)
    return _issue(user, login)


def _issue(user: User, login: Login) -> TokenPair:
    """Create a pair for a login, with its unused refresh token."""
    access_token, refresh_token = tokens.make_pair(
        user_id=user.id, role=user.role, login_id=login.id, refresh_token_id=str(login.refresh_token_id)
    )
    login.expires_at = _refresh_expiry(login.ends_at)
    db.session.flush()
    return TokenPair(access_token, refresh_token, int(_access_token_lifetime().total_seconds()), user)


def _refresh_expiry(ends_at: datetime) -> datetime:
    return min(ends_at, now() + timedelta(days=current_app.config["REFRESH_TOKEN_DAYS"]))


def _access_token_lifetime() -> timedelta:
    return timedelta(minutes=current_app.config["ACCESS_TOKEN_MINUTES"])


def _hash_new_password(password: str, network: str | None) -> str:
    if passwords.is_common(password):
        raise InvalidInput({"password": ["Too common: attackers try it first."]})
    with passwords.hashing_slots.take(network):
        return passwords.hash_password(password)
