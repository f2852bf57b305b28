"""Erasing an account with all that it owns, in steps that are short on SQLite (`database.bulk`)."""

from collections.abc import Iterator

from ..auth import service as auth
from ..messages import deletion
from ..users import service as users


def erase_account(*, user_id: str, keep_login_id: str | None = None) -> Iterator[None]:
    """Erase a user and everything they own, in steps, each to be committed. The first one raises NotFound.

    From the first step on nobody can log in to the account, and all tokens are revoked but the access token of
    `keep_login_id`, with which an erasure that was interrupted can be requested again. The token of an identity
    provider leads to a new account from then on, so whoever repeats the request with one erases that; `flask purge`
    finishes the first erasure, as it does any, and so does `flask users delete`.
    """
    auth.begin_erasure(user_id=user_id, keep_login_id=keep_login_id)
    yield
    yield from deletion.hide_all_conversations(user_id=user_id)
    for conversation_id, by in deletion.list_hidden(user_id=user_id):
        yield from deletion.remove_hidden(user_id=user_id, conversation_id=conversation_id, by=by)
    yield from users.delete_user(user_id=user_id)
    auth.end_erasure(login_id=keep_login_id)
    yield
