"""What an export reads: everything of a user, page by page, in the order in which it is written.

Each page is one short statement that ends with it, so no connection and no transaction waits for a slow client. All
orders are those of indexes, over all conversations of the user: the number of statements grows with the pages, not
with the conversations or messages.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased, join

from ..attachments.models import Attachment
from ..completions.models import Completion
from ..completions.records import IS_RUNNING
from ..conversations.models import IS_VISIBLE, Conversation
from ..database.columns import Id
from ..database.parameters import ROW_LIMIT, USER_ID, given
from ..database.statements import Statement
from ..errors import NotFound
from ..files.models import AttachmentFile, StoredFile
from ..llm_providers.models import LLMProvider
from ..messages.models import Message
from ..user_llm_configs.models import UserLLMConfig
from ..users.models import User
from ..web.pagination import FIRST_ID, MAX_PAGE_BYTES, within_page_bytes
from .records import ATTACHMENT, COMPLETION, CONFIG, CONVERSATION, MESSAGE, PROVIDER
from .schemas import COMPUTED, LINES, OF_CONTENT

PAGE_ROWS = 500

Row = dict[str, Any]


class Source:
    """One kind of rows, read in keyset pages."""

    def __init__(
        self,
        columns: Mapping[str, Any],
        *conditions: Any,
        keys: tuple[str, ...],
        texts: tuple[Any, ...] = (),
        size_bytes: Any = None,
        tables: Any = None,
    ) -> None:
        """`keys` name the columns of the order; `texts` are the columns that make a row large, besides `size_bytes`.

        `tables` is the join that it is read from, where it is more than one table.
        """
        self._columns, self._conditions, self._tables = dict(columns), conditions, tables
        self._keys, self._texts, self._size_bytes = keys, texts, size_bytes
        self._ids = [name for name, column in columns.items() if isinstance(column.type, Id)]
        self._statement = Statement(self._select)

    def read_page(self, **parameters: Any) -> tuple[list[Row], bool]:
        """The rows of the page after a cursor, and whether there are more. See `after`."""

        def read(rows: Iterable[Any]) -> tuple[list[Row], bool]:
            found: list[Row] = []
            page_bytes = 0
            for *values, size_bytes in rows:
                found.append(self._row(values))
                page_bytes += size_bytes
                if len(found) == PAGE_ROWS or page_bytes > MAX_PAGE_BYTES:
                    return found, True
            return found, False

        return self._statement.read(read, row_limit=PAGE_ROWS, **parameters)

    def after(self, row: Row | None) -> Row:
        """The cursor of the page after this row; of the first page for None."""
        if row is None:
            first = {name: FIRST_ID if name in self._ids else 0 for name in self._keys}
        else:
            first = {name: row[name] for name in self._keys}
        return {f"after_{name}": value for name, value in first.items()}

    def read_all(self, last: Row | None = None, /, **parameters: Any) -> Iterator[Row]:
        """All rows, or those after `last`, a page at a time."""
        more = True
        while more:
            rows, more = self.read_page(**parameters, **self.after(last))
            yield from rows
            last = rows[-1] if rows else last

    def _row(self, values: list[Any]) -> Row:
        row = dict(zip(self._columns, values, strict=True))
        for name in self._ids:  # Postgres' driver has a type of its own for ids
            if row[name] is not None:
                row[name] = str(row[name])
        return row

    def _select(self, on_postgres: bool) -> sa.Executable:
        """Postgres hands over whole results, so there the statement itself ends with the row that crosses
        MAX_PAGE_BYTES; SQLite is read row by row, and its `length` counts characters, which is near enough."""
        length = sa.func.octet_length if on_postgres else sa.func.length
        size: Any = sum((sa.func.coalesce(length(text), 0) for text in self._texts), sa.literal_column("0"))
        if self._size_bytes is not None:
            size = size + self._size_bytes
        key = [self._columns[name] for name in self._keys]
        cursor = [given(f"after_{name}", self._cursor_type(name)) for name in self._keys]
        rows = sa.select(
            *(column.label(name) for name, column in self._columns.items()), size.label("row_bytes")
        )
        if self._tables is not None:
            rows = rows.select_from(self._tables)
        rows = rows.where(*self._conditions, sa.tuple_(*key) > sa.tuple_(*cursor))
        rows = rows.order_by(*key).limit(ROW_LIMIT)
        if not on_postgres:
            return rows
        sized = within_page_bytes(rows, *self._keys, size="row_bytes")
        return sized.order_by(*(sized.selected_columns[name] for name in self._keys))

    def _cursor_type(self, name: str) -> Any:
        return Id() if name in self._ids else sa.BigInteger()


def _columns(model: Any, kind: str) -> dict[str, Any]:
    """The columns of the line's fields that the model has."""
    fields = LINES[kind].fields.items()
    left_out = COMPUTED + OF_CONTENT
    return {name: getattr(model, field.attribute or name) for name, field in fields if name not in left_out}


_ACCOUNT = Statement(sa.select(User.email, User.role, User.created_at).where(User.id == USER_ID))


def find_account(*, user_id: str) -> Row:
    """The account itself. Raises NotFound."""
    row = _ACCOUNT.first(user_id=user_id)
    if row is None:
        raise NotFound("user")
    return {"id": user_id, **dict(zip(("email", "role", "created_at"), row, strict=True))}


PROVIDERS = Source(_columns(LLMProvider, PROVIDER), LLMProvider.owner_id == USER_ID, keys=("id",))
CONFIGS = Source(_columns(UserLLMConfig, CONFIG), UserLLMConfig.user_id == USER_ID, keys=("id",))
# messages of others are read and left out, see exporter
CONVERSATIONS = Source(
    _columns(Conversation, CONVERSATION), Conversation.user_id == USER_ID, IS_VISIBLE, keys=("id",)
)
MESSAGES = Source(
    _columns(Message, MESSAGE) | {"attachment_count": Message.attachment_count},
    Message.user_id == USER_ID,
    keys=("conversation_id", "position"),
    texts=(Message.tool_calls, Message.sources, Message.parts, Message.provider_state, Message.erased),
    size_bytes=Message.size_bytes,
)

# the attachments and completions of one page of messages: after one key and up to another
_UP_TO = sa.tuple_(given("up_to_conversation"), given("up_to_position", sa.BigInteger()))
_WITHIN = sa.tuple_(Message.conversation_id, Message.position) <= _UP_TO
_MESSAGE_KEY = {"conversation_id": Message.conversation_id, "position": Message.position}


def _of_file(column: Any) -> Any:
    """A column of the row that says which content an attachment has.

    Looked up for each: joined, Postgres reads all rows of the owner for each, where its statistics expect few of them.
    """
    its = (AttachmentFile.user_id == USER_ID, AttachmentFile.id == Attachment.id)
    return sa.select(column).where(*its).correlate(Attachment).scalar_subquery()


def _of_content(column: Any) -> Any:
    its = (StoredFile.user_id == USER_ID, StoredFile.id == _of_file(AttachmentFile.file_id))
    return sa.select(column).where(*its).scalar_subquery()


_CONTENT = {
    "file_name": _of_file(AttachmentFile.file_name),
    "size_bytes": _of_content(StoredFile.size_bytes),
    "sha256": _of_content(StoredFile.sha256),
}
ATTACHMENTS = Source(
    _columns(Attachment, ATTACHMENT) | _CONTENT | {"number": Attachment.position} | _MESSAGE_KEY,
    Message.user_id == USER_ID,
    Message.attachment_count > 0,
    _WITHIN,
    tables=join(
        Message,
        Attachment,
        sa.and_(Attachment.user_id == Message.user_id, Attachment.message_id == Message.id),
    ),
    keys=("conversation_id", "position", "number"),
)
_Reply = aliased(Message)
COMPLETIONS = Source(
    _columns(Completion, COMPLETION)
    | {
        "prompt_tokens": Completion.prompt_tokens,
        "completion_tokens": Completion.completion_tokens,
        "cached_tokens": Completion.cached_tokens,
        "reasoning_tokens": Completion.reasoning_tokens,
        "usage_estimated": Completion.usage_estimated,
        "warnings": Completion.warnings,
        "omitted_attachments": Completion.omitted_attachments,
        "reply_position": _Reply.position,
    }
    | _MESSAGE_KEY,  # of the message, not of the completion: the order is that of an index
    Message.user_id == USER_ID,
    _WITHIN,
    sa.not_(IS_RUNNING),
    tables=join(
        Message,
        Completion,
        sa.and_(Completion.user_id == Message.user_id, Completion.parent_id == Message.id),
    ).outerjoin(_Reply, sa.and_(_Reply.user_id == Completion.user_id, _Reply.id == Completion.message_id)),
    keys=("conversation_id", "position", "id"),
    texts=(Completion.problem, Completion.reasoning, Completion.warnings, Completion.outline),
)
