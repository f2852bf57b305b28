"""Invitations: links with which one person each can register where registration is not open."""

from datetime import timedelta

import sqlalchemy as sa
from flask import current_app

from ..database.columns import now
from ..database.session import db
from ..errors import Conflict, Forbidden, NotFound
from ..users import service as users
from ..users.email_addresses import normalized_email
from ..web.pagination import Listing, Page
from . import tokens
from .models import Invitation

PREFIX = "chat_inv_"
MAX_INVITATIONS = 1000  # of one admin, those that were used or have expired included


class InvitationRequired(Forbidden):
    """Registration is by invitation, and there is none in the request."""

    code = "invitation_required"

    def __init__(self) -> None:
        super().__init__("Registration is by invitation: send the `invitation` that an admin gave you.")


class InvalidInvitation(Forbidden):
    """The invitation is unknown, used, expired or for another address: the same response for all."""

    code = "invalid_invitation"

    def __init__(self) -> None:
        super().__init__("The invitation is unknown, was used, has expired, or is for another email address.")


class TooManyInvitations(Conflict):
    """The admin has as many invitations as one may have."""

    code = "too_many_invitations"

    def __init__(self) -> None:
        super().__init__(
            f"You already have {MAX_INVITATIONS} invitations, used and expired ones included; delete some first."
        )


def create_invitation(*, user_id: str, email: str | None, expires_in_days: int) -> tuple[Invitation, str]:
    """Make an invitation: its row, and the code, which is not stored.

    Raises Conflict if the admin has too many, NotFound if their account was deleted.
    """
    users.lock_user(user_id=user_id)
    own = sa.select(sa.func.count()).select_from(Invitation).where(Invitation.user_id == user_id)
    if (db.session.scalar(own) or 0) >= MAX_INVITATIONS:
        raise TooManyInvitations()
    code, invitation_id, secret_hash = tokens.make_secret(PREFIX, user_id=user_id)
    moment = now()
    invitation = Invitation(
        user_id=user_id,
        id=invitation_id,
        secret_hash=secret_hash,
        email=normalized_email(email) if email else None,
        expires_at=moment + timedelta(days=expires_in_days),
        created_at=moment,
    )
    db.session.add(invitation)
    db.session.flush()
    return invitation, code


def link_of(code: str) -> str | None:
    """The address to send to whoever is invited; None where INVITATION_URL is not set.

    The code is in the fragment, which browsers send to no server and so is in nobody's log.
    """
    page: str = current_app.config["INVITATION_URL"]
    return f"{page}#invitation={code}" if page else None


def list_invitations(*, user_id: str, page: Page) -> Listing[Invitation]:
    """A page of the admin's invitations, oldest first."""
    own = sa.select(Invitation).where(Invitation.user_id == user_id)
    query = page.sort(page.narrow(own, Invitation.id), Invitation.id)
    return page.listing(list(db.session.scalars(query)))


def get_invitation(*, user_id: str, invitation_id: str, lock: bool = False) -> Invitation:
    """One of the admin's invitations. `lock` keeps it as it is until the transaction ends. Raises NotFound."""
    query = sa.select(Invitation).where(Invitation.user_id == user_id, Invitation.id == invitation_id)
    invitation = db.session.scalar(query.with_for_update() if lock else query)
    if invitation is None:
        raise NotFound("invitation")
    return invitation


def delete_invitation(*, invitation: Invitation) -> None:
    """Delete a locked invitation: nobody can register with it any more."""
    db.session.delete(invitation)
    db.session.flush()


def use_invitation(*, code: str, email: str) -> None:
    """Use up an invitation for this address, in the transaction that registers it. Raises Forbidden."""
    try:
        user_id, invitation_id, secret_hash = tokens.read_secret(PREFIX, code)
    except tokens.InvalidToken:
        raise InvalidInvitation() from None
    moment = now()
    used = (
        sa.update(Invitation)
        .where(
            Invitation.user_id == user_id,
            Invitation.id == invitation_id,
            Invitation.secret_hash == secret_hash,
            Invitation.used_at.is_(None),
            Invitation.expires_at > moment,
            sa.or_(Invitation.email.is_(None), Invitation.email == normalized_email(email)),
        )
        .values(used_at=moment)
        .returning(Invitation.id)
    )
    if db.session.scalar(used) is None:
        raise InvalidInvitation()
