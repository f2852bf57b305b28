"""Messages by the ids that their clients give them, or by their own."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from ..database.id_lists import ids_value, select_listed
from ..database.parameters import CONVERSATION_ID, USER_ID, given
from ..database.statements import Statement
from ..web.fields import is_uuid
from .conditions import IN_VISIBLE, ON_PATH
from .models import Message


class Named(NamedTuple):
    """A message that a client names."""

    id: str
    role: str
    parent_id: str | None
    position: int
    is_on_path: bool


def _columns(name: Any) -> tuple[Any, ...]:
    return (
        name,
        Message.conversation_id,
        Message.id,
        Message.role,
        Message.parent_id,
        Message.position,
        ON_PATH,
    )


def _by_external_id(on_postgres: bool) -> sa.Executable:
    """The messages of a conversation that its client calls by the parameter `names`, a JSON array."""
    names: Any = given("names", sa.Text())
    ours = (Message.user_id == USER_ID, Message.conversation_id == CONVERSATION_ID)
    found: sa.Select[Any] = sa.select(*_columns(Message.external_id))
    if on_postgres:
        elements = sa.func.json_array_elements_text(sa.cast(names, sa.JSON))
        listed = elements.table_valued("value", name="listed").render_derived()
        found = found.select_from(listed).join(Message, sa.and_(*ours, Message.external_id == listed.c.value))
    else:  # a join would begin with all messages, see `select_listed`
        listed = sa.func.json_each(names).table_valued("value", name="listed")
        found = found.where(*ours, Message.external_id.in_(sa.select(listed.c.value)))
    return found.where(IN_VISIBLE)


def _by_id(on_postgres: bool) -> sa.Executable:
    """Of any conversation: an id is the key by itself, and SQLite would rather read all of the conversation."""
    found: sa.Select[Any] = select_listed(_columns(Message.id), Message.id, on_postgres=on_postgres)
    return found.where(IN_VISIBLE)


_BY_EXTERNAL_ID, _BY_ID = Statement(_by_external_id), Statement(_by_id)


def find_named(*, user_id: str, conversation_id: str, names: Iterable[str]) -> dict[str, Named]:
    """Those messages of a conversation that a client names, by these names; of equal ones the newest."""
    names = list(dict.fromkeys(names))
    rows: list[Any] = []
    if message_ids := [name for name in names if is_uuid(name)]:
        rows += _BY_ID.all(user_id=user_id, ids=ids_value(message_ids))
    if names:
        listed = orjson.dumps(names).decode()
        called = _BY_EXTERNAL_ID.all(user_id=user_id, conversation_id=conversation_id, names=listed)
        rows += sorted(called, key=itemgetter(5))
    return {
        str(name): Named(str(id_), role, parent_id and str(parent_id), position, bool(is_on_path))
        for name, its_conversation, id_, role, parent_id, position, is_on_path in rows
        if str(its_conversation) == conversation_id
    }
