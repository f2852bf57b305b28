"""Finding, creating and deleting users."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ..database.bulk import delete_owned_rows
from ..database.columns import new_id, now
from ..database.session import db
from ..database.statements import Statement
from ..errors import Conflict, NotFound
from ..files import service as files
from .email_addresses import normalized_email
from .models import User


def _create_external(on_postgres: bool) -> sa.Executable:
    insert: Any = (postgresql if on_postgres else sqlite).insert(User)
    columns = ("id", "issuer", "subject", "role", "created_at")
    return insert.values({name: sa.bindparam(name) for name in columns}).on_conflict_do_nothing()


# These run outside a transaction: for the guard, and while a password is hashed
_ROLE_OF = Statement(sa.select(User.role).where(User.id == sa.bindparam("user_id")))
_CREDENTIALS = Statement(sa.select(User.id, User.password_hash).where(User.email == sa.bindparam("email")))
_PASSWORD_HASH = Statement(sa.select(User.password_hash).where(User.id == sa.bindparam("user_id")))
_BEING_ERASED = Statement(
    sa.select(User.id).where(
        User.id == sa.bindparam("user_id"), User.password_hash.is_(None), User.subject.is_(None)
    )
)
_EXTERNAL = Statement(
    sa.select(User.id, User.role).where(
        User.issuer == sa.bindparam("issuer"), User.subject == sa.bindparam("subject")
    )
)
_CREATE_EXTERNAL = Statement(_create_external)


def get_user(*, user_id: str) -> User:
    """The user, or NotFound."""
    user = db.session.get(User, user_id)
    if user is None:
        raise NotFound("user")
    return user


def lock_user(*, user_id: str) -> User:
    """The user, locked against changes and deletion until the transaction ends. Raises NotFound."""
    query = sa.select(User).where(User.id == user_id).with_for_update()
    user = db.session.scalar(query.execution_options(populate_existing=True))
    if user is None:
        raise NotFound("user")
    return user


def hold_user(*, user_id: str) -> None:
    """Let one transaction at a time that calls this go on for a user, while others refer to the user as before."""
    query = sa.select(User.id).where(User.id == user_id).with_for_update(key_share=True)
    if db.session.scalar(query) is None:
        raise NotFound("user")


def require_user(*, user_id: str) -> None:
    """Raise NotFound if there is no such user."""
    if _ROLE_OF.first(user_id=user_id) is None:
        raise NotFound("user")


def find_credentials(*, email: str) -> tuple[str | None, str | None]:
    """Id and password hash of the local account with this address; two Nones if there is none."""
    row = _CREDENTIALS.first(email=normalized_email(email))
    return (str(row[0]), row[1]) if row else (None, None)


def find_password_hash(*, user_id: str) -> str | None:
    """The user's password hash; None for a user of the identity provider."""
    row = _PASSWORD_HASH.first(user_id=user_id)
    return row[0] if row else None


def get_user_by_email(*, email: str) -> User:
    """The local account with this address. Raises NotFound."""
    user = find_user_by_email(email=email)
    if user is None:
        raise NotFound("user")
    return user


def find_user_by_email(*, email: str) -> User | None:
    """The local account with this address, whatever its case."""
    return db.session.scalar(sa.select(User).where(User.email == normalized_email(email)))


def find_or_create_external_user_and_commit(*, issuer: str, subject: str) -> tuple[str, str]:
    """Id and role of an identity provider's user, created on first use."""
    row = _EXTERNAL.first(issuer=issuer, subject=subject)
    if row is None:  # of two first requests at once one creates the row, and both read it
        _CREATE_EXTERNAL.first_and_commit(
            id=new_id(), issuer=issuer, subject=subject, role="user", created_at=now()
        )
        row = _EXTERNAL.first(issuer=issuer, subject=subject)
    if row is None:
        raise NotFound("user")
    return str(row[0]), row[1]


def create_user(*, email: str, password_hash: str, role: str = "user") -> User:
    """Create a local account. Raises Conflict if the address is taken."""
    user = User(email=normalized_email(email), password_hash=password_hash, role=role)
    db.session.add(user)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise Conflict("An account with this email address already exists.") from error
    return user


def remove_credentials(*, user_id: str) -> None:
    """Leave a locked user nothing to log in with, and nothing that an identity provider's token would find."""
    db.session.execute(
        sa.update(User).where(User.id == user_id).values(password_hash=None, issuer=None, subject=None)
    )


def is_being_erased(*, user_id: str) -> bool:
    """Whether the user has no credentials any more: their erasure has begun."""
    return _BEING_ERASED.first(user_id=user_id) is not None


def list_being_erased() -> list[str]:
    """The users without credentials: their erasure has begun, and perhaps was interrupted."""
    return list(
        db.session.scalars(sa.select(User.id).where(User.password_hash.is_(None), User.subject.is_(None)))
    )


def delete_user(*, user_id: str) -> Iterator[None]:
    """Delete the user and all rows that they own, in steps, each to be committed; nothing where there is no such user.

    The foreign keys alone would do it, but in one long statement.
    """
    yield from files.delete_all(user_id=user_id)
    yield from delete_owned_rows(user_id=user_id)
    # with the lock nobody stores another file; that of an upload which was still arriving goes, too
    if db.session.scalar(sa.select(User.id).where(User.id == user_id).with_for_update()) is not None:
        for _ in files.delete_all(user_id=user_id):
            pass
        db.session.execute(sa.delete(User).where(User.id == user_id))
    yield
