"""Starting a reply, keeping what came of it, and settling how it ended: all SQL and all rules of completions.

Everything runs on the fast lane: starting a reply is on the way to its first token, and what keeps it runs
several times a second for as many replies as a worker holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects import postgresql, sqlite

from .. import statements
from ..columns import Id, UTCDateTime, new_id, now, seconds_of
from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..errors import Conflict, InvalidInput, NotFound, TooManyRequests, problem_body
from ..llm.request import ChatRequest, Endpoint
from ..messages import service as messages
from ..messages.models import Message
from ..pagination import MAX_PAGE_BYTES, Page
from ..statements import IntegrityFailed, Statement
from ..user_llm_configs import service as configs
from .context import Context, choose_context, tokens_of
from .models import IN_PROGRESS, Completion, CompletionPiece
from .reply_log import REASONING, TEXT, Chunk, ReplyLog, from_json, rebuilt, to_json

LEASE = timedelta(seconds=15)  # a worker that did not renew for so long is taken for dead
RETRY_AFTER_S = 1
# Events that a client may have seen and that were not durable when a worker died are below this distance: the id
# of the last event lies behind them, so that nobody who saw more mistakes the end for something known.
UNSEEN = 2**26


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


_OWNER, _ID = _parameter("owner", Id()), _parameter("completion", Id())
_OURS = (Completion.user_id == _OWNER, Completion.id == _ID)
_IS_RUNNING = Completion.status == sa.literal_column("'in_progress'")  # a literal, as in the partial index


# -- starting -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A reply that was promised: everything its producer needs, with no database behind it."""

    id: str
    user_id: str
    conversation_id: str
    parent_id: str
    message_id: str
    provider_id: str
    model: str
    created_at: datetime
    context: Context
    endpoint: Endpoint
    request: ChatRequest
    answered: dict[str, Any]  # the message that it answers


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for."""

    user_id: str
    conversation_id: str
    provider_id: str
    model: str | None = None
    content: str | None = None
    parent_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


_RUNNING = Statement(
    sa.select(
        Completion.id,
        Completion.conversation_id,
        Completion.parent_id,
        Completion.branch_id,
        Completion.lease_expires_at,
    ).where(Completion.user_id == _OWNER, _IS_RUNNING)
)


def _lock(dialect_name: str) -> sa.Executable:
    """Lock the conversation and, where there are several writers, all starts of this user."""
    here = sa.select(Conversation.message_count).where(
        Conversation.user_id == _OWNER, Conversation.id == _parameter("conversation", Id())
    )
    if dialect_name == "postgresql":
        number = _parameter("number", sa.BigInteger())
        here = here.add_columns(sa.cast(sa.func.pg_advisory_xact_lock(number), sa.Text))
    return here.with_for_update()


_LOCK = Statement(_lock)
_INSERT = Statement(
    sa.insert(Completion).values(
        user_id=_OWNER,
        id=_ID,
        conversation_id=_parameter("conversation", Id()),
        parent_id=_parameter("parent", Id()),
        branch_id=_parameter("branch", Id()),
        message_id=_parameter("message", Id()),
        provider_id=_parameter("provider", Id()),
        model=_parameter("model_", sa.String()),
        status=sa.literal_column("'in_progress'"),
        prompt_tokens=_parameter("prompt", sa.Integer()),
        usage_estimated=sa.true(),
        omitted_messages=_parameter("omitted", sa.Integer()),
        worker_id=_parameter("worker", Id()),
        lease_expires_at=_parameter("lease", UTCDateTime()),
        cancel_requested=sa.false(),
        created_at=_parameter("moment", UTCDateTime()),
    )
)


class _WorkerLost(Exception):
    """A reply in the way of a new one belongs to a worker that has died."""


def start(asked: Asked, *, worker_id: str, running_limit: int) -> Started:
    """Promise a reply: store the user's message and the completion, in one transaction.

    Raises NotFound, InvalidInput, Conflict where one is in progress on this branch, TooManyRequests beyond
    `running_limit` replies of this user.
    """
    access = configs.open_access(user_id=asked.user_id, provider_id=asked.provider_id)
    model = _model(asked, access)
    try:
        return _promise(asked, access, model, worker_id, running_limit)
    except _WorkerLost:
        reap_abandoned(user_id=asked.user_id)
        return _promise(asked, access, model, worker_id, running_limit)


def preview(asked: Asked) -> tuple[Endpoint, ChatRequest, Context]:
    """What `start` would send, storing nothing. Raises as `start` does, but for what is in progress."""
    access = configs.open_access(user_id=asked.user_id, provider_id=asked.provider_id)
    there = conversations.get_conversation(user_id=asked.user_id, conversation_id=asked.conversation_id)
    context = _context(asked, access, _answered(asked), last_position=there["message_count"])
    return access.endpoint, ChatRequest(_model(asked, access), context.messages, asked.parameters), context


def open_endpoint(*, user_id: str, provider_id: str) -> Endpoint:
    """Where to ask a provider something in the user's name. Raises NotFound."""
    return configs.open_access(user_id=user_id, provider_id=provider_id).endpoint


def _model(asked: Asked, access: configs.Access) -> str:
    model = asked.model or access.default_model
    if model is None:
        raise InvalidInput({"model": ["Missing, and your config for this provider has no default_model."]})
    return model


def _promise(asked: Asked, access: configs.Access, model: str, worker_id: str, running_limit: int) -> Started:
    moment, completion_id, message_id = now(), new_id(), new_id()
    place = {"owner": asked.user_id, "conversation": asked.conversation_id}
    with statements.transaction():
        number = int.from_bytes(bytes.fromhex(asked.user_id.replace("-", ""))[8:], signed=True)
        there = _LOCK.first(**place, number=number)
        if there is None:
            raise NotFound("conversation")
        answered = _answered(asked)
        _require_room(asked, running_limit, moment)
        context = _context(asked, access, answered, last_position=there[0])
        if asked.content is not None:
            answered = messages.append_message(
                user_id=asked.user_id,
                conversation_id=asked.conversation_id,
                role="user",
                content=asked.content,
            )
        assert answered is not None  # noqa: S101 - without content _answered found one  # nosec
        try:
            _INSERT.all(
                **place, completion=completion_id, parent=answered["id"], branch=asked.parent_id, message=message_id,
                provider=asked.provider_id, model_=model, prompt=context.tokens, omitted=context.omitted,
                worker=worker_id, lease=moment + LEASE, moment=moment,
            )  # fmt: skip
        except IntegrityFailed as error:
            raise _busy() from error
    return Started(
        id=completion_id,
        user_id=asked.user_id,
        conversation_id=asked.conversation_id,
        parent_id=answered["id"],
        message_id=message_id,
        provider_id=asked.provider_id,
        model=model,
        created_at=moment,
        context=context,
        endpoint=access.endpoint,
        request=ChatRequest(model, context.messages, asked.parameters),
        answered=answered,
    )


def _answered(asked: Asked) -> dict[str, Any] | None:
    """The message that is named, or without new content the last one; None where the new content is answered."""
    if asked.parent_id is not None:
        message = messages.get_message(user_id=asked.user_id, message_id=asked.parent_id)
        if message["conversation_id"] != asked.conversation_id:
            raise NotFound("message in this conversation")
        return message
    if asked.content is not None:
        return None
    last = messages.find_last_message(user_id=asked.user_id, conversation_id=asked.conversation_id)
    if last is None:
        raise InvalidInput({"content": ["Missing, and the conversation has no message to answer yet."]})
    return last


def _require_room(asked: Asked, running_limit: int, moment: datetime) -> None:
    """One reply at a time in a conversation, unless each names another parent; and so many of one user."""
    running = _RUNNING.all(owner=asked.user_id)
    if any(seconds_of(row[4]) < moment.timestamp() for row in running):
        raise _WorkerLost()
    for _, conversation_id, parent_id, branch_id, _ in running:
        if str(conversation_id) == asked.conversation_id:
            if asked.parent_id in (None, str(parent_id), str(branch_id)):
                raise _busy()
    if len(running) >= running_limit:
        raise TooManyRequests(
            f"{running_limit} replies of yours are in progress; wait for one, or cancel one.",
            retry_after_s=RETRY_AFTER_S,
        )


def _busy() -> Conflict:
    return Conflict(
        "A reply is in progress in this conversation: follow it, cancel it, or name another parent_id."
    )


def _context(
    asked: Asked, access: configs.Access, answered: dict[str, Any] | None, *, last_position: int
) -> Context:
    return choose_context(
        user_id=asked.user_id,
        conversation_id=asked.conversation_id,
        up_to=answered["position"] if answered else last_position,
        content=asked.content,
        window=access.context_window or current_app.config["CONTEXT_WINDOW_TOKENS"],
        max_tokens=asked.parameters.get("max_tokens"),
    )


# -- reading ------------------------------------------------------------------------------------------------

_FIELDS = ("id", "conversation_id", "parent_id", "message_id", "provider_id", "model", "status", "finish_reason",
           "problem", "prompt_tokens", "completion_tokens", "usage_estimated", "omitted_messages", "reasoning",
           "outline", "last_event_id", "worker_id", "lease_expires_at", "cancel_requested", "created_at",
           "finished_at")  # fmt: skip
_ID_FIELDS = tuple(name for name in _FIELDS if isinstance(Completion.__table__.c[name].type, Id))
_READ = sa.select(
    *(getattr(Completion, name) for name in _FIELDS),
    Message.position,
    Message.content,
    Message.status,
    Message.created_at,
    Message.tool_calls,
).join_from(
    Completion,
    Message,
    sa.and_(Message.user_id == Completion.user_id, Message.id == Completion.message_id),
    isouter=True,
)
_GET = Statement(_READ.where(*_OURS))


# of what grows with the reply; characters of the thoughts will do, a page's bound is no exact one
_SIZE = (
    sa.func.coalesce(Message.size_bytes, 0)
    + sa.func.coalesce(sa.func.length(Message.tool_calls), 0)
    + sa.func.coalesce(sa.func.length(Completion.reasoning), 0)
).label("size")


def _page(dialect_name: str, *, backwards: bool) -> sa.Executable:
    """A page by keyset, with the size of each row behind its columns; bounded as a page of messages is."""
    cursor = _parameter("cursor", Id())
    beyond = Completion.id < cursor if backwards else Completion.id > cursor
    place = (Completion.user_id == _OWNER, Completion.conversation_id == _parameter("conversation", Id()))
    rows = (
        _READ.add_columns(_SIZE)
        .where(*place, beyond)
        .order_by(Completion.id.desc() if backwards else Completion.id)
        .limit(_parameter("limit_", sa.Integer()))
    )
    if dialect_name != "postgresql":
        return rows
    page = rows.subquery("page")
    direction = page.c.id.desc() if backwards else page.c.id
    running = sa.func.sum(page.c.size).over(order_by=direction).label("running_bytes")
    sized = sa.select(page, running).subquery("sized")
    columns = [column for column in sized.c if column.name != "running_bytes"]
    return sa.select(*columns).where(sized.c.running_bytes - sized.c.size <= MAX_PAGE_BYTES)


_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_PAGES = {
    False: Statement(lambda dialect_name: _page(dialect_name, backwards=False)),
    True: Statement(lambda dialect_name: _page(dialect_name, backwards=True)),
}
_PIECES = Statement(
    sa.select(CompletionPiece.chunks)
    .where(
        CompletionPiece.user_id == _OWNER,
        CompletionPiece.completion_id == _ID,
        CompletionPiece.position >= _parameter("begin", sa.Integer()),
    )
    .order_by(CompletionPiece.position)
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A completion as the database has it."""

    row: dict[str, Any]
    message: dict[str, Any] | None

    @property
    def in_progress(self) -> bool:
        """Whether it has not been settled yet."""
        return self.row["status"] == IN_PROGRESS

    @property
    def is_abandoned(self) -> bool:
        """Whether the worker that wrote it is taken for dead."""
        return self.in_progress and seconds_of(self.row["lease_expires_at"]) < now().timestamp()

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why it did not end well, as a problem (RFC 9457)."""
        return orjson.loads(self.row["problem"]) if self.row["problem"] else None

    def log(self) -> ReplyLog:
        """The whole reply of a completion that has ended."""
        message = self.message or {}
        return rebuilt(
            self.row["outline"] or "[]",
            text=message.get("content", ""),
            reasoning=self.row["reasoning"] or "",
            tool_calls=message.get("tool_calls", []),
        )

    def shown(self) -> dict[str, Any]:
        """The completion as clients see it."""
        return _shown(self.row, self.message, self.problem)


def _shown(
    row: Mapping[str, Any], message: dict[str, Any] | None, problem: dict[str, Any] | None
) -> dict[str, Any]:
    usage = None
    if row["completion_tokens"] is not None:
        usage = {
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["completion_tokens"],
            "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
            "estimated": bool(row["usage_estimated"]),
        }
    return {
        "id": row["id"],
        "conversation_id": row["conversation_id"],
        "parent_id": row["parent_id"],
        "provider_id": row["provider_id"],
        "model": row["model"],
        "status": row["status"],
        "message": message,
        "reasoning": row["reasoning"],
        "usage": usage,
        "finish_reason": row["finish_reason"],
        "omitted_messages": row["omitted_messages"],
        "problem": problem,
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }


def _stored(row: tuple[Any, ...]) -> Stored:
    fields = dict(zip(_FIELDS, row, strict=False))
    for name in _ID_FIELDS:  # Postgres' driver has a type of its own for ids
        fields[name] = str(fields[name])
    position, content, status, created_at, tool_calls = row[len(_FIELDS) :]
    if position is None:
        return Stored(fields, None)
    message = reply_message(
        fields["message_id"], fields["conversation_id"], position, content, status, created_at, tool_calls
    )
    return Stored(fields, message)


def reply_message(
    message_id: str,
    conversation_id: str,
    position: int | None,
    content: str,
    status: str,
    created_at: Any,
    tool_calls: str | None,
) -> dict[str, Any]:
    """A reply as a message; while it is in progress it has no position yet."""
    return messages.shown(
        message_id, conversation_id, position, "assistant", content, status, created_at, tool_calls
    )


def shown_in_progress(row: Mapping[str, Any], log: ReplyLog) -> dict[str, Any]:
    """A completion in progress with what is there of its reply."""
    message = reply_message(
        row["message_id"],
        row["conversation_id"],
        None,
        log.text_of(TEXT),
        IN_PROGRESS,
        row["created_at"],
        log.tool_calls(),
    )
    return _shown({**row, "reasoning": log.text_of(REASONING) or None}, message, None)


def row_of(started: Started) -> dict[str, Any]:
    """The fields of a completion that has just been started, as its row has them."""
    known = {name: getattr(started, name, None) for name in _FIELDS}
    return {**known, "status": IN_PROGRESS, "omitted_messages": started.context.omitted}


def shown_at_start(row: Mapping[str, Any]) -> dict[str, Any]:
    """The completion as it was when it began, whatever has become of it."""
    ends = ("finish_reason", "problem", "completion_tokens", "finished_at")
    return shown_in_progress({**row, **dict.fromkeys(ends), "status": IN_PROGRESS}, ReplyLog())


def find_answered(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The message that a completion answers. Raises NotFound."""
    row = _GET.first(owner=user_id, completion=completion_id)
    if row is None:
        raise NotFound("completion")
    return messages.get_message(user_id=user_id, message_id=_stored(row).row["parent_id"])


def find(*, user_id: str, completion_id: str) -> Stored:
    """The completion; one whose worker died is settled first. Raises NotFound."""
    row = _GET.first(owner=user_id, completion=completion_id)
    if row is None:
        raise NotFound("completion")
    stored = _stored(row)
    if not stored.is_abandoned:
        return stored
    _reap(user_id, completion_id, stored.row["conversation_id"])
    row = _GET.first(owner=user_id, completion=completion_id)
    if row is None:
        raise NotFound("completion")
    return _stored(row)


def show(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The completion as clients see it, with what is durable of a reply in progress. Raises NotFound."""
    stored = find(user_id=user_id, completion_id=completion_id)
    if not stored.in_progress:
        return stored.shown()
    log = ReplyLog(read_pieces(user_id=user_id, completion_id=completion_id, begin=0))
    return shown_in_progress(stored.row, log)


def list_completions(*, user_id: str, conversation_id: str, page: Page) -> tuple[list[dict[str, Any]], bool]:
    """A page of a conversation's completions, oldest first, and whether there are more in its direction.

    A page ends early rather than grow beyond MAX_PAGE_BYTES. Raises NotFound.
    """

    def read(rows: Iterable[tuple[Any, ...]]) -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        page_bytes = 0
        for *row, size in rows:
            page_bytes += size
            if len(found) == page.limit or (page_bytes > MAX_PAGE_BYTES and found):
                return found, True
            found.append(_stored(tuple(row)).shown())
        return found, False

    found, more = _PAGES[page.backwards].read(
        read,
        owner=user_id,
        conversation=conversation_id,
        cursor=page.before or page.after or _FIRST_ID,
        limit_=page.limit + 1,
    )
    if not found:
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    if page.backwards:
        found.reverse()
    return found, more


def read_pieces(*, user_id: str, completion_id: str, begin: int) -> list[Chunk]:
    """The durable chunks of a reply in progress, from a piece's beginning on."""
    rows = _PIECES.all(owner=user_id, completion=completion_id, begin=begin)
    return [chunk for (text,) in rows for chunk in from_json(text)]


# -- ending -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How a reply ended."""

    status: str
    finish_reason: str | None
    problem: dict[str, Any] | None
    prompt_tokens: int
    completion_tokens: int
    usage_estimated: bool


# with both rows locked: nobody appends meanwhile, and nobody else settles
_STATE = Statement(
    sa.select(
        Completion.status,
        Completion.worker_id,
        Completion.message_id,
        Completion.lease_expires_at,
        Completion.finish_reason,
    )
    .join_from(
        Completion,
        Conversation,
        sa.and_(Conversation.user_id == Completion.user_id, Conversation.id == Completion.conversation_id),
    )
    .where(*_OURS)
    .with_for_update()
)
_DROP_PIECES = sa.delete(CompletionPiece).where(
    CompletionPiece.user_id == _OWNER, CompletionPiece.completion_id == _ID
)


def _settle_row(dialect_name: str) -> sa.Executable:
    """Store how it ended; Postgres drops the pieces in the same round trip."""
    settled = (
        sa.update(Completion)
        .where(*_OURS)
        .values(
            status=_parameter("status_", sa.String()),
            finish_reason=_parameter("reason", sa.String()),
            problem=_parameter("problem_", sa.Text()),
            prompt_tokens=_parameter("prompt", sa.Integer()),
            completion_tokens=_parameter("written", sa.Integer()),
            usage_estimated=_parameter("estimated", sa.Boolean()),
            reasoning=_parameter("thoughts", sa.Text()),
            outline=_parameter("outline_", sa.Text()),
            last_event_id=_parameter("last", sa.BigInteger()),
            finished_at=_parameter("moment", UTCDateTime()),
        )
    )
    return settled.add_cte(_DROP_PIECES.cte("dropped")) if dialect_name == "postgresql" else settled


_SETTLE, _DROP = Statement(_settle_row), Statement(_DROP_PIECES)
_HAS_MESSAGE = Statement(
    sa.select(Message.id).where(Message.user_id == _OWNER, Message.id == _parameter("message", Id()))
)
_REPLACE_MESSAGE = Statement(
    sa.update(Message)
    .where(Message.user_id == _OWNER, Message.id == _parameter("message", Id()))
    .values(
        content=_parameter("text", sa.Text()),
        size_bytes=_parameter("size", sa.Integer()),
        status=_parameter("status_", sa.String()),
        tool_calls=_parameter("calls", sa.Text()),
    )
)
WORKER_LOST = "worker_lost"


def settle(started: Started, *, worker_id: str, log: ReplyLog, ending: Ending) -> Stored:
    """Store the end of a reply: its message, its usage and its status, in one transaction. Once, whoever is first.

    One exception: a worker that was taken for dead and comes back, with more of the reply than was durable when
    it was settled, still has its way. Returns what is stored then. Raises NotFound where the conversation was
    deleted meanwhile.
    """
    settled = _settle(
        started.user_id, started.conversation_id, row_of(started), log, ending, worker_id=worker_id
    )
    return settled or find(user_id=started.user_id, completion_id=started.id)


def _settle(
    user_id: str,
    conversation_id: str,
    known: Mapping[str, Any],
    log: ReplyLog,
    ending: Ending,
    *,
    worker_id: str | None,
) -> Stored | None:
    """What was stored, or None where it was settled already or is gone. Without `worker_id` its lease is over."""
    ours = {"owner": user_id, "completion": known["id"]}
    with statements.transaction():
        row = _STATE.first(**ours)
        if row is None:
            return None
        status, writer_id, message_id, lease_expires_at, reason = row
        is_first = status == IN_PROGRESS
        if worker_id is None:
            may_settle = is_first and seconds_of(lease_expires_at) < now().timestamp()
        else:
            may_settle = is_first or (str(writer_id) == worker_id and reason == WORKER_LOST)
        if not may_settle:
            return None
        message = _store_reply(user_id, conversation_id, str(message_id), log, ending, is_first=is_first)
        ended = {
            "status": ending.status,
            "finish_reason": ending.finish_reason,
            "problem": orjson.dumps(ending.problem).decode() if ending.problem else None,
            "prompt_tokens": ending.prompt_tokens,
            "completion_tokens": ending.completion_tokens,
            "usage_estimated": ending.usage_estimated,
            "reasoning": log.text_of(REASONING) or None,
            "outline": log.outline(),
            "last_event_id": log.position + (UNSEEN if worker_id is None else 1),
            "finished_at": now(),
        }
        _SETTLE.all(
            **ours,
            status_=ended["status"],
            reason=ended["finish_reason"],
            problem_=ended["problem"],
            prompt=ended["prompt_tokens"],
            written=ended["completion_tokens"],
            estimated=ended["usage_estimated"],
            thoughts=ended["reasoning"],
            outline_=ended["outline"],
            last=ended["last_event_id"],
            moment=ended["finished_at"],
        )
        if not statements.writes_in_one_round_trip():
            _DROP.all(**ours)
    return Stored({**known, **ended}, message)


def _store_reply(
    user_id: str, conversation_id: str, message_id: str, log: ReplyLog, ending: Ending, *, is_first: bool
) -> dict[str, Any] | None:
    """Append the reply to the conversation; of a reply that failed before its first word there is no message."""
    content, tool_calls = log.text_of(TEXT), log.tool_calls()
    if not content and tool_calls is None and ending.status != "completed":
        return None
    status = "incomplete" if ending.status == "failed" else ending.status
    if not is_first and _HAS_MESSAGE.first(owner=user_id, message=message_id) is not None:
        size_bytes = len(content.encode())
        _REPLACE_MESSAGE.all(
            owner=user_id, message=message_id, text=content, size=size_bytes, status_=status, calls=tool_calls
        )
        return messages.get_message(user_id=user_id, message_id=message_id)
    return messages.append_reply(
        user_id=user_id,
        conversation_id=conversation_id,
        message_id=message_id,
        content=content,
        status=status,
        tool_calls=tool_calls,
    )


# -- keeping: what a worker does for all its replies at once ---------------------------------------------------


def _listed(dialect_name: str, **columns: Any) -> Any:
    """The rows of the JSON array `rows`, as a table of these columns."""
    if dialect_name == "postgresql":
        rows = sa.cast(_parameter("rows", sa.Text()), postgresql.JSONB)
        typed = [sa.column(name, kind) for name, kind in columns.items()]
        return sa.func.jsonb_to_recordset(rows).table_valued(*typed).render_derived("listed", with_types=True)
    item = sa.func.json_each(_parameter("rows", sa.Text())).table_valued("value", name="item")
    values = [
        sa.cast(sa.func.json_extract(item.c.value, f"$.{name}"), kind).label(name)
        if isinstance(kind, sa.Integer)
        else sa.func.json_extract(item.c.value, f"$.{name}", type_=kind).label(name)
        for name, kind in columns.items()
    ]
    return sa.select(*values).select_from(item).subquery("listed")


def _keys(dialect_name: str) -> Any:
    return _listed(dialect_name, user_id=Id(), id=Id())


def _save(dialect_name: str) -> sa.Executable:
    listed = _listed(dialect_name, user_id=Id(), id=Id(), position=sa.Integer(), chunks=sa.Text())
    # only where the completion is still there: one that was deleted must not stop the others' pieces
    rows = sa.select(Completion.user_id, Completion.id, listed.c.position, listed.c.chunks).join_from(
        listed, Completion, sa.and_(Completion.user_id == listed.c.user_id, Completion.id == listed.c.id)
    )
    # locked, so that on Postgres a settling transaction either drops the piece or is seen to have been there
    rows = rows.where(_IS_RUNNING).with_for_update(read=True, of=Completion)
    # where the answer to a commit was lost the same piece comes again
    insert: Any = postgresql.insert if dialect_name == "postgresql" else sqlite.insert
    saved = insert(CompletionPiece).from_select(["user_id", "completion_id", "position", "chunks"], rows)
    key = [CompletionPiece.user_id, CompletionPiece.completion_id, CompletionPiece.position]
    return saved.on_conflict_do_nothing(index_elements=key)


def _renew(dialect_name: str) -> sa.Executable:
    keys = _keys(dialect_name)
    mine = sa.tuple_(Completion.user_id, Completion.id).in_(sa.select(keys.c.user_id, keys.c.id))
    renewed = sa.update(Completion).where(mine, _IS_RUNNING)
    return renewed.values(lease_expires_at=_parameter("lease", UTCDateTime()))


def _wanted(dialect_name: str) -> sa.Executable:
    keys = _keys(dialect_name)
    mine = sa.and_(Completion.user_id == keys.c.user_id, Completion.id == keys.c.id)
    return (
        sa.select(Completion.id).join_from(keys, Completion, mine).where(sa.not_(Completion.cancel_requested))
    )


_SAVE, _RENEW, _WANTED = Statement(_save), Statement(_renew), Statement(_wanted)
_REQUEST_CANCEL = Statement(
    sa.update(Completion).where(*_OURS, _IS_RUNNING).values(cancel_requested=sa.true())
)
# goes through all users: the in-progress ones are few, whatever the number of those that ended
_ABANDONED = Statement(
    sa.select(Completion.user_id, Completion.id, Completion.conversation_id).where(
        _IS_RUNNING, Completion.lease_expires_at < _parameter("moment", UTCDateTime())
    )
)


def save_pieces(pieces: Iterable[tuple[str, str, int, list[Chunk]]]) -> None:
    """Make pieces of replies durable: (user, completion, position, chunks) of each, all at once."""
    rows = [
        {"user_id": user_id, "id": completion_id, "position": position, "chunks": to_json(chunks)}
        for user_id, completion_id, position, chunks in pieces
    ]
    with statements.transaction():
        _SAVE.all(rows=orjson.dumps(rows).decode())


def renew_leases(keys: Iterable[tuple[str, str]]) -> None:
    """Say that these replies are still being written."""
    with statements.transaction():
        _RENEW.all(rows=_as_rows(keys), lease=now() + LEASE)


def find_wanted(keys: Iterable[tuple[str, str]]) -> set[str]:
    """Which of these replies are still wanted: not cancelled, nor deleted with their conversation or user."""
    return {str(completion_id) for (completion_id,) in _WANTED.all(rows=_as_rows(keys))}


def _as_rows(keys: Iterable[tuple[str, str]]) -> str:
    return orjson.dumps(
        [{"user_id": user_id, "id": completion_id} for user_id, completion_id in keys]
    ).decode()


def request_cancel(*, user_id: str, completion_id: str) -> None:
    """Leave word for the worker that writes this reply; it looks several times a second."""
    with statements.transaction():
        _REQUEST_CANCEL.all(owner=user_id, completion=completion_id)


def reap_abandoned(*, user_id: str | None = None) -> None:
    """Settle replies whose worker has died as incomplete, with the text that was durable: one user's, or all."""
    for row in _ABANDONED.all(moment=now()):
        owner, completion_id, conversation_id = map(str, row)
        if user_id in (None, owner):
            _reap(owner, completion_id, conversation_id)


def _reap(user_id: str, completion_id: str, conversation_id: str) -> None:
    log = ReplyLog(read_pieces(user_id=user_id, completion_id=completion_id, begin=0))
    row = _GET.first(owner=user_id, completion=completion_id)
    if row is None:
        return
    known = _stored(row).row
    text = log.text_of(TEXT) + log.text_of(REASONING) + (log.tool_calls() or "")
    ending = Ending(
        status="incomplete",
        finish_reason=WORKER_LOST,
        problem=problem_body(500, WORKER_LOST, "The server that wrote this reply was stopped."),
        prompt_tokens=known["prompt_tokens"],
        completion_tokens=tokens_of(text),
        usage_estimated=True,
    )
    _settle(user_id, conversation_id, known, log, ending, worker_id=None)
