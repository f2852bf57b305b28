"""Starting a reply, finding and cancelling it: the rules of completions.

Everything runs on the fast lane: starting a reply is on the way to its first token.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from flask import current_app

from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..database import statements
from ..database.columns import Id, UTCDateTime, new_id, now, seconds_of
from ..database.statements import IntegrityFailed, Statement
from ..errors import RETRY_AFTER_S, Conflict, InvalidInput, NotFound, TooManyRequests, Unavailable
from ..llm.request import ChatRequest, Endpoint
from ..messages import active_path
from ..messages import service as messages
from ..messages.models import Message
from ..user_llm_configs import service as configs
from ..web.pagination import FIRST_ID, MAX_PAGE_BYTES, MAX_POSITION, Page, within_page_bytes
from .checkpoints import LEASE, read_checkpoints
from .context import Context, choose_context
from .finalize import reap, reap_abandoned
from .models import Completion
from .records import (
    ID,
    IS_RUNNING,
    OURS,
    OWNER,
    READ,
    StartedCompletion,
    StoredCompletion,
    find_record,
    record_of,
    shown_in_progress,
)
from .reply_log import ReplyLog


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


_RUNNING = Statement(
    sa.select(
        Completion.id,
        Completion.conversation_id,
        Completion.parent_id,
        Completion.branch_id,
        Completion.lease_expires_at,
    ).where(Completion.user_id == OWNER, IS_RUNNING)
)


def _lock(on_postgres: bool) -> sa.Executable:
    """Lock the conversation and, where there are several writers, all starts of this user."""
    here = sa.select(Conversation.last_position).where(
        Conversation.user_id == OWNER, Conversation.id == _parameter("conversation", Id())
    )
    if on_postgres:
        number = _parameter("number", sa.BigInteger())
        here = here.add_columns(sa.cast(sa.func.pg_advisory_xact_lock(number), sa.Text))
    return here.with_for_update()


_LOCK = Statement(_lock)
_INSERT = Statement(
    sa.insert(Completion).values(
        user_id=OWNER,
        id=ID,
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
# of what grows with the reply; characters of the thoughts will do, a page's bound is no exact one
_SIZE = (
    sa.func.coalesce(Message.size_bytes, 0)
    + sa.func.coalesce(sa.func.length(Message.tool_calls), 0)
    + sa.func.coalesce(sa.func.length(Completion.reasoning), 0)
).label("size")


def _page(on_postgres: bool, *, backwards: bool) -> sa.Executable:
    """A page by keyset, with the size of each row behind its columns; bounded as a page of messages is."""
    cursor = _parameter("cursor", Id())
    beyond = Completion.id < cursor if backwards else Completion.id > cursor
    place = (Completion.user_id == OWNER, Completion.conversation_id == _parameter("conversation", Id()))
    rows = (
        READ.add_columns(_SIZE)
        .where(*place, beyond)
        .order_by(Completion.id.desc() if backwards else Completion.id)
        .limit(_parameter("limit_", sa.Integer()))
    )
    if not on_postgres:
        return rows
    return within_page_bytes(rows, "id", size="size", backwards=backwards)


_PAGES = {
    False: Statement(lambda on_postgres: _page(on_postgres, backwards=False)),
    True: Statement(lambda on_postgres: _page(on_postgres, backwards=True)),
}
_REQUEST_CANCEL = Statement(sa.update(Completion).where(*OURS, IS_RUNNING).values(cancel_requested=sa.true()))


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What a caller asks for."""

    user_id: str
    conversation_id: str
    provider_id: str
    model: str | None = None
    content: str | None = None
    parent_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


class _WorkerLost(Unavailable):
    """A reply in the way of a new one belongs to a worker that has died, and is not finalized yet."""

    def __init__(self) -> None:
        super().__init__("A reply of yours whose server was stopped is not finalized yet; try again.")


def start(asked: CompletionRequest, *, worker_id: str, running_limit: int) -> StartedCompletion:
    """Promise a reply: store the user's message and the completion, in one transaction.

    Raises NotFound, InvalidInput, Conflict where one is in progress on this branch, TooManyRequests beyond
    `running_limit` replies of this user.
    """
    try:
        try:
            return _promise(asked, worker_id, running_limit)
        except _WorkerLost:
            reap_abandoned(user_id=asked.user_id)
            return _promise(asked, worker_id, running_limit)
    except IntegrityFailed as error:
        raise _busy() from error


def preview(asked: CompletionRequest) -> tuple[Endpoint, ChatRequest, Context]:
    """What `start` would send, storing nothing. Raises as `start` does, but for what is in progress."""
    access = configs.open_access(user_id=asked.user_id, provider_id=asked.provider_id)
    conversations.require_conversation(user_id=asked.user_id, conversation_id=asked.conversation_id)
    with statements.rolled_back_transaction():
        context = _context(asked, access, _answered(asked), last_position=MAX_POSITION - 1)
    return access.endpoint, ChatRequest(_model(asked, access), context.messages, asked.parameters), context


def open_endpoint(*, user_id: str, provider_id: str) -> Endpoint:
    """Where to ask a provider something in the user's name. Raises NotFound."""
    return configs.open_access(user_id=user_id, provider_id=provider_id).endpoint


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
            found.append(record_of(tuple(row)).shown())
        return found, False

    found, more = _PAGES[page.backwards].read(
        read,
        owner=user_id,
        conversation=conversation_id,
        cursor=page.before or page.after or FIRST_ID,
        limit_=page.limit + 1,
    )
    if not found:
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    if page.backwards:
        found.reverse()
    return found, more


def find(*, user_id: str, completion_id: str) -> StoredCompletion:
    """The completion; one whose worker died is finalized first. Raises NotFound."""
    stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is not None and stored.is_abandoned:
        reap(stored)
        stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is None:
        raise NotFound("completion")
    return stored


def show(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The completion as clients see it, with what is durable of a reply in progress. Raises NotFound."""
    stored = find(user_id=user_id, completion_id=completion_id)
    if not stored.in_progress:
        return stored.shown()
    log = ReplyLog(read_checkpoints(user_id=user_id, completion_id=completion_id, begin=0))
    return shown_in_progress(stored.row, log)


def find_parent(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The message that a completion answers. Raises NotFound."""
    stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is None:
        raise NotFound("completion")
    return messages.get_message(user_id=user_id, message_id=stored.row["parent_id"])


def request_cancel(*, user_id: str, completion_id: str) -> None:
    """Leave word for the worker that writes this reply; it looks several times a second."""
    with statements.transaction():
        _REQUEST_CANCEL.all(owner=user_id, completion=completion_id)


def _model(asked: CompletionRequest, access: configs.Access) -> str:
    model = asked.model or access.default_model
    if model is None:
        raise InvalidInput({"model": ["Missing, and your config for this provider has no default_model."]})
    return model


def _promise(asked: CompletionRequest, worker_id: str, running_limit: int) -> StartedCompletion:
    moment, completion_id, message_id = now(), new_id(), new_id()
    place = {"owner": asked.user_id, "conversation": asked.conversation_id}
    with statements.transaction():
        number = int.from_bytes(bytes.fromhex(asked.user_id.replace("-", ""))[8:], signed=True)
        found, there, running = statements.fetch_pipelined(
            (configs.ACCESS, {"owner": asked.user_id, "provider": asked.provider_id}),
            (_LOCK, {**place, "number": number}),
            (_RUNNING, {"owner": asked.user_id}),
        )
        access = configs.access_from(found, asked.user_id, asked.provider_id)
        model = _model(asked, access)
        if not there:
            raise NotFound("conversation")
        answered = _answered(asked)
        _require_room(asked, running, running_limit, moment)
        context = _context(asked, access, answered, last_position=there[0][0])
        if asked.content is not None:
            answered = messages.append_message(
                user_id=asked.user_id,
                conversation_id=asked.conversation_id,
                role="user",
                content=asked.content,
            )
        assert answered is not None  # noqa: S101 - without content _answered found one  # nosec
        statements.execute_at_end(
            _INSERT, **place, completion=completion_id, parent=answered["id"], branch=asked.parent_id,
            message=message_id, provider=asked.provider_id, model_=model, prompt=context.tokens,
            omitted=context.omitted, worker=worker_id, lease=moment + LEASE, moment=moment,
        )  # fmt: skip
    return StartedCompletion(
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


def _answered(asked: CompletionRequest) -> dict[str, Any] | None:
    """The message that is named, or without new content the last one; None where the new content is answered.

    The active path is led to one that is named: what the model is told, and where its reply goes.
    """
    if asked.parent_id is not None:
        active_path.lead_path_to(
            user_id=asked.user_id, conversation_id=asked.conversation_id, message_id=asked.parent_id
        )
        return messages.get_message(user_id=asked.user_id, message_id=asked.parent_id)
    if asked.content is not None:
        return None
    last = messages.find_last_message(user_id=asked.user_id, conversation_id=asked.conversation_id)
    if last is None:
        raise InvalidInput({"content": ["Missing, and the conversation has no message to answer yet."]})
    return last


def _require_room(asked: CompletionRequest, running: list[Any], running_limit: int, moment: datetime) -> None:
    """One reply at a time in a conversation, unless each names another parent; and so many of one user."""
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
    asked: CompletionRequest, access: configs.Access, answered: dict[str, Any] | None, *, last_position: int
) -> Context:
    return choose_context(
        user_id=asked.user_id,
        conversation_id=asked.conversation_id,
        up_to=answered["position"] if answered else last_position,
        content=asked.content,
        window=access.context_window or current_app.config["CONTEXT_WINDOW_TOKENS"],
        max_tokens=asked.parameters.get("max_tokens"),
    )
