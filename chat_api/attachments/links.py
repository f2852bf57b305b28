"""Signed links to the content of an attachment, for where no header can be sent: a picture of a page, a player, a
download that the browser itself does.

A link is a secret that the keyring has encrypted for this attachment: who asked for it, and until when. It is not
stored. Of one for a single use the id is, from its use on, until it would have expired by itself.
"""

from collections.abc import Callable
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

import orjson
from flask import current_app

from ..auth import guard
from ..auth.guard import Caller
from ..auth.tokens import InvalidToken
from ..database.columns import new_id, now
from ..files import used_links
from ..keyring import CannotDecrypt, keyring
from .service import path_of

PARAMETER = "link"
MAX_LINK_LENGTH = 4096


class Link(NamedTuple):
    """What a link says."""

    id: str | None  # None for one that may be used again
    expires_at: datetime
    caller: Caller  # who asked for it

    def require_unused(self) -> None:
        """Raise InvalidToken where it was for a single use and had that."""
        if self.id is not None and used_links.is_used(user_id=self.caller.user_id, link_id=self.id):
            raise _used()

    def use_and_commit(self) -> None:
        """Use it up, where it is for a single use. Raises InvalidToken where another request has done so."""
        if self.id is not None and not used_links.use_and_commit(
            user_id=self.caller.user_id, link_id=self.id, expires_at=self.expires_at
        ):
            raise _used()


def make_link(*, attachment_id: str, expires_at: datetime, single_use: bool) -> str:
    """A link of the caller's. Whose login ends, or whose token is deleted, loses it."""
    content = [new_id() if single_use else None, expires_at.timestamp(), *astuple(guard.caller())]
    return keyring().encrypt(orjson.dumps(content), encryption_context=_context(attachment_id))


def link_maker(*, expires_at: datetime) -> Callable[[str], str]:
    """What makes links of the caller's that may be used again, by the ids of attachments; also after the request."""
    caller, ring = guard.caller(), keyring()
    content = cache(lambda: orjson.dumps([None, expires_at.timestamp(), *astuple(caller)]))  # most make none
    return lambda attachment_id: ring.encrypt(content(), encryption_context=_context(attachment_id))


def address_maker(base: str) -> Callable[[str], str]:
    """What makes addresses of contents, by the ids of attachments, below that of the service, for clients that send no
    token with them: valid as long as links may be, and as the caller's login. Also after the request."""
    make_link = link_maker(expires_at=now() + timedelta(seconds=current_app.config["MAX_LINK_S"]))
    return lambda id_: f"{base}{path_of(attachment_id=id_)}?{PARAMETER}={make_link(id_)}"


def read_link(text: str, *, attachment_id: str) -> Link:
    """What the link says. Raises InvalidToken for one that is forged, for another attachment, expired or ended."""
    try:
        if len(text) > MAX_LINK_LENGTH:
            raise CannotDecrypt()
        content = keyring().decrypt(text, encryption_context=_context(attachment_id))
    except CannotDecrypt:
        raise _invalid() from None
    link_id, seconds, *fields = orjson.loads(content)
    link = Link(link_id, datetime.fromtimestamp(seconds, UTC), Caller(*fields))
    if link.expires_at <= now():
        raise _invalid()
    guard.require_not_ended(link.caller)
    return link


def _context(attachment_id: str) -> tuple[str, ...]:
    return "attachment link", attachment_id


def _invalid() -> InvalidToken:
    return InvalidToken("The link is invalid or has expired; get another one.")


def _used() -> InvalidToken:
    return InvalidToken("The link was single-use, and has been used; get another one.")
