"""Completions that clients of a dialect keep as objects of their own: listed, with metadata that they change."""

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..conversations.models import is_in_visible
from ..database.metadata_filters import has_pairs
from ..database.parameters import ROW_LIMIT, USER_ID, given, new
from ..database.statements import Statement
from ..errors import NotFound
from ..messages.models import Message
from ..web.pagination import FIRST_ID, Listing, Page, within_page_bytes
from .models import IS_KEPT, Completion
from .records import READ, THIS_COMPLETION, StoredCompletion, record_of
from .service import REPLY_SIZE


def _page(
    on_postgres: bool, *, is_all: bool, has_model: bool, has_metadata: bool, backwards: bool
) -> sa.Executable:
    cursor = given("cursor")
    rows = READ.add_columns(REPLY_SIZE).where(
        Completion.user_id == USER_ID,
        IS_KEPT,
        Message.id.is_not(None),
        is_in_visible(USER_ID, Completion.conversation_id),
        Completion.id < cursor if backwards else Completion.id > cursor,
    )
    if not is_all:
        rows = rows.where(Completion.is_listed.is_(True))
    if has_model:
        name = given("model", sa.String())
        rows = rows.where(sa.or_(Completion.model == name, _asked_model(on_postgres) == name))
    if has_metadata:
        rows = rows.where(has_pairs(Completion.client_metadata, on_postgres))
    rows = rows.order_by(Completion.id.desc() if backwards else Completion.id).limit(ROW_LIMIT)
    return within_page_bytes(rows, "id", size="size", backwards=backwards) if on_postgres else rows


def _asked_model(on_postgres: bool) -> sa.ColumnElement[Any]:
    if on_postgres:
        return sa.cast(Completion.asked, postgresql.JSONB)["model"].astext
    return sa.func.json_extract(Completion.asked, "$.model")


@cache
def _page_of(**shape: bool) -> Statement:
    return Statement(partial(_page, **shape))


_CHANGE = Statement(
    sa.update(Completion)
    .where(*THIS_COMPLETION, IS_KEPT)
    .values(client_metadata=new(Completion.client_metadata))
    .returning(Completion.id)
)


def list_kept(
    *,
    user_id: str,
    page: Page,
    is_all: bool = False,
    model: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Listing[StoredCompletion]:
    """A page of what is listed, or of `is_all` that is kept, of those that have a reply. Its cursors are ids.

    `model` is a name as it was asked for, or the provider's; `metadata` are pairs that they have.
    """
    statement = _page_of(
        is_all=is_all, has_model=model is not None, has_metadata=bool(metadata), backwards=page.backwards
    )
    return statement.read(
        page.reader(record_of),
        user_id=user_id,
        cursor=page.before or page.after or FIRST_ID,
        row_limit=page.limit + 1,
        **({} if model is None else {"model": model}),
        **({"pairs": orjson.dumps(metadata).decode()} if metadata else {}),
    )


def change_metadata(*, user_id: str, completion_id: str, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a completion that is kept. In a transaction. Raises NotFound."""
    text = orjson.dumps(metadata).decode()
    if _CHANGE.first(user_id=user_id, completion_id=completion_id, new_client_metadata=text) is None:
        raise NotFound("completion")
