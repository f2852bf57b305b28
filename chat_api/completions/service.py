"""Creating, finding and cancelling completions: the rules.

Everything is a compiled statement: creating a completion is on the way to its first token.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import current_app

from ..attachments import sendable
from ..attachments import service as attachments
from ..conversations import service as conversations
from ..conversations.models import Conversation, is_in_visible
from ..database import statements
from ..database.columns import new_id, now
from ..database.parameters import CONVERSATION_ID, ROW_LIMIT, USER_ID, given, named_new, new
from ..database.session import session_and_commit
from ..database.statements import Call, IntegrityFailed, Statement
from ..errors import RETRY_AFTER_S, Conflict, InvalidInput, NotFound, TooManyRequests, Unavailable
from ..llm.abilities import abilities_of
from ..llm.protocols import parameter_warnings
from ..llm.request import ChatRequest, Endpoint
from ..llm.translation import LIMITS
from ..messages import active_path, pages
from ..messages import service as messages
from ..messages.active_path import Branch
from ..messages.conditions import THIS_CONVERSATION
from ..messages.models import Message
from ..messages.parts import Part
from ..messages.repair import repair_and_commit
from ..search_index.writer import Words, words_of
from ..user_llm_configs import service as configs
from ..users.quotas import Quota, Quotas, rows_of
from ..web.pagination import FIRST_ID, MAX_POSITION, Listing, Page, within_page_bytes
from . import finalize, lease
from .checkpoints import read_checkpoints
from .context import PAGE, Context, choose_context
from .file_parts import Limits
from .finalize import reap_abandoned_and_commit, reap_and_commit
from .model_abilities import known_lacks
from .models import COMPLETION_ROW, Completion
from .records import (
    IS_RUNNING,
    READ,
    THIS_COMPLETION,
    KeptAs,
    StartedCompletion,
    StoredCompletion,
    find_record,
    in_progress_to_json,
    record_of,
)
from .reply_log import ReplyLog
from .sent_files import FilesOfMessages

_RUNNING = Statement(
    sa.select(
        Completion.conversation_id,
        Completion.parent_id,
        Completion.branch_id,
        lease.IS_OVER.label("is_over"),
    ).where(Completion.user_id == USER_ID, IS_RUNNING)
)


def _lock(on_postgres: bool) -> sa.Executable:
    """Lock the conversation and, where there are several writers, all starts of this user."""
    conversation = sa.select(Conversation.active_leaf_id).where(*THIS_CONVERSATION)
    if on_postgres:
        lock = sa.func.pg_advisory_xact_lock(given("lock_number", sa.BigInteger()))
        conversation = conversation.add_columns(sa.cast(lock, sa.Text))
    return conversation.with_for_update()


_LOCK = Statement(_lock)
_INSERT = Statement(
    sa.insert(Completion).values(
        {column.key: new(column) for column in COMPLETION_ROW.columns} | {"lease_expires_at": lease.NEXT_END}
    )
)
# of what grows with the reply or its request; characters will do, a page's bound is not exact
REPLY_SIZE = (
    sa.func.coalesce(Message.size_bytes, 0)
    + sa.func.coalesce(sa.func.length(Message.tool_calls), 0)
    + sa.func.coalesce(sa.func.length(Completion.reasoning), 0)
    + sa.func.coalesce(sa.func.length(Completion.asked), 0)
).label("size")


def _page(on_postgres: bool, *, backwards: bool) -> sa.Executable:
    """A page by keyset, with the size of each row after its columns; bounded as a page of messages is."""
    cursor = given("cursor")
    beyond = Completion.id < cursor if backwards else Completion.id > cursor
    scope = (Completion.user_id == USER_ID, Completion.conversation_id == CONVERSATION_ID)
    rows = (
        READ.add_columns(REPLY_SIZE)
        .where(*scope, is_in_visible(USER_ID, CONVERSATION_ID), beyond)
        .order_by(Completion.id.desc() if backwards else Completion.id)
        .limit(ROW_LIMIT)
    )
    if not on_postgres:
        return rows
    return within_page_bytes(rows, "id", size="size", backwards=backwards)


_PAGES = {
    False: Statement(lambda on_postgres: _page(on_postgres, backwards=False)),
    True: Statement(lambda on_postgres: _page(on_postgres, backwards=True)),
}
QUOTAS = Quotas(
    rows_of(Completion.user_id),
    Quota(
        "completions",
        "MAX_COMPLETIONS_PER_USER",
        "completions",
        "delete some of the messages or conversations that they belong to first",
    ),
)
_REQUEST_CANCEL = Statement(
    sa.update(Completion).where(*THIS_COMPLETION, IS_RUNNING).values(cancel_requested=sa.true())
)
ENDLESS = 2**62  # as a window, in tokens
MAX_TRIES = 5  # where the conversation changes while it is read


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """What a caller asks for."""

    user_id: str
    conversation_id: str
    provider_id: str
    model: str | None = None
    content: str | None = None
    parts: Sequence[Part] = ()  # of the content, where it is a list
    attachment_ids: Sequence[str] = ()
    parent_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_alone: bool = False  # no other one may be in progress in the conversation, on whatever branch
    instructions: str | None = None  # before all that is sent; of no message, and stored nowhere
    is_whole: bool = False  # all of the conversation is sent, whatever the model's window
    asked: str | None = None  # see models.Completion
    kept_as: KeptAs | None = None


class _WorkerLost(Unavailable):
    """A completion in the way of a new one belongs to a worker that has died, and is not finalized yet."""

    def __init__(self) -> None:
        super().__init__("A completion interrupted by a server restart is still being finalized; retry.")


class _PathMoved(Conflict):
    """The active path ends at another message than when it was read."""

    def __init__(self) -> None:
        super().__init__("Messages are being added to this conversation; retry.")


IN_THE_WAY = (_WorkerLost, _PathMoved)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a completion sends, read before anything is locked."""

    access: configs.Access
    model: str
    parent: dict[str, Any] | None  # the message that is answered, unless that is the new one
    context: Context
    words: Words  # of the new message
    message: Mapping[str, Any]  # its columns, where there is one
    endpoint: Endpoint
    request: ChatRequest
    warnings: tuple[str, ...]  # what of the request the provider can't do


def prepare_completion(*, request: CompletionRequest) -> Prepared:
    """Read what a new completion would send. Only reads, so it waits for nobody and nobody for it.

    Raises NotFound, though not for every unknown conversation, which `_create` locks; InvalidInput, QuotaExceeded, and
    where attachments can't be sent what `FilesOfMessages` raises.
    """
    access, newest_page = _open_access(request)
    model = _model(request, access)
    # of the reply only that it may begin: it is stored whatever its size
    message = _new_message(request)
    conversations.QUOTAS.require_room(
        0, 1 + (request.content is not None), messages.size_of(fields=message) + 1, user_id=request.user_id
    )
    QUOTAS.require_room(1, user_id=request.user_id)
    parent, branch = _find_parent(request)
    endpoint = access.endpoint_for(user_id=request.user_id, provider_id=request.provider_id, model=model)
    context = _context(request, access, endpoint, model, parent, branch, newest_page)
    chat = ChatRequest(model, context.messages, request.parameters, cache_key=request.conversation_id)
    return Prepared(
        access,
        model,
        parent,
        context,
        words_of(request.content or ""),
        message,
        endpoint,
        chat,
        parameter_warnings(chat, endpoint),
    )


def create_completion(
    *, request: CompletionRequest, prepared: Prepared, worker_id: str, running_limit: int
) -> StartedCompletion:
    """Store the user's message and a completion in progress, in the transaction of `db.session`.

    What has changed since it was prepared is read again in that transaction. Raises NotFound, InvalidInput, Conflict
    where one is in progress on this branch, TooManyRequests beyond `running_limit` completions of this user, and
    LongMove as `set_active_leaf` does.
    """
    with _conflict_where_busy():
        try:
            return _create(request, prepared, worker_id, running_limit)
        except _WorkerLost:
            reap_abandoned_and_commit(user_id=request.user_id)
        except _PathMoved:
            _repair_and_commit(request)
        prepared = prepare_completion(request=request)
        return _create(request, prepared, worker_id, running_limit)


@contextmanager
def beginning_and_commit() -> Iterator[None]:
    """A transaction for a completion and what it answers, whose last statement and commit are one round trip."""
    with _conflict_where_busy(), statements.transaction():
        yield


def create_at_once(
    *, request: CompletionRequest, prepared: Prepared, worker_id: str, running_limit: int
) -> StartedCompletion:
    """As `create_completion`, inside `beginning_and_commit`. Raises one of IN_THE_WAY where other transactions have to
    do something first."""
    return _create(request, prepared, worker_id, running_limit)


def create_completion_and_commit(
    *, request: CompletionRequest, worker_id: str, running_limit: int
) -> StartedCompletion:
    """As `create_completion`, in a transaction of its own, whose last statement and commit are one round trip.

    Contents are read before it begins, so no writer waits for them.
    """
    failure: _WorkerLost | _PathMoved | IntegrityFailed
    at_once = statements.on_postgres() and request.content is not None and not request.attachment_ids
    for _ in range(MAX_TRIES):
        prepared = prepare_completion(request=request)
        with _conflict_where_busy():
            try:
                with session_and_commit() if request.attachment_ids else statements.transaction():
                    return _create(request, prepared, worker_id, running_limit, at_once=at_once)
            except IntegrityFailed as error:
                if not at_once:
                    raise
                failure, at_once = error, False  # for what that is too quick for
            except _PathMoved as error:
                failure = error
                _repair_and_commit(request)
            except _WorkerLost as error:
                failure = error
                reap_abandoned_and_commit(user_id=request.user_id)
    raise failure


def preview_completion(*, request: CompletionRequest) -> Prepared:
    """What a new completion would send.

    Raises what `create_completion` raises, except for completions in progress.
    """
    conversations.require_conversation(user_id=request.user_id, conversation_id=request.conversation_id)
    return prepare_completion(request=request)


def open_endpoint(*, user_id: str, provider_id: str) -> Endpoint:
    """The provider's endpoint with the user's key, decrypted. Raises NotFound."""
    access = configs.open_access(user_id=user_id, provider_id=provider_id)
    return access.endpoint_for(user_id=user_id, provider_id=provider_id, model=None)


def open_endpoint_to_check(
    *, user_id: str, provider_id: str, model: str | None
) -> tuple[Endpoint, str | None]:
    """The provider's endpoint, with the user's key if there is one, and the model to try if any is known.

    Raises NotFound.
    """
    access = configs.open_access(user_id=user_id, provider_id=provider_id, needs_key=False)
    model = model or access.default_model
    return access.endpoint_for(user_id=user_id, provider_id=provider_id, model=model), model


def list_completions(*, user_id: str, conversation_id: str, page: Page) -> Listing[dict[str, Any]]:
    """A page of a conversation's completions, oldest first. Raises NotFound."""
    listing = _PAGES[page.backwards].read(
        page.reader(lambda row: record_of(row).to_json()),
        user_id=user_id,
        conversation_id=conversation_id,
        cursor=page.before or page.after or FIRST_ID,
        row_limit=page.limit + 1,
    )
    if not listing.items:
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    return listing


def find_completion(*, user_id: str, completion_id: str) -> StoredCompletion:
    """The completion; one whose worker died is finalized first. Raises NotFound."""
    stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is not None and stored.is_abandoned:
        reap_and_commit(stored)
        stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is None:
        raise NotFound("completion")
    return stored


def get_completion(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The completion as clients get it, with what is durable of a reply in progress. Raises NotFound."""
    stored = find_completion(user_id=user_id, completion_id=completion_id)
    if not stored.in_progress:
        return stored.to_json()
    log = ReplyLog(read_checkpoints(user_id=user_id, completion_id=completion_id, begin=0))
    return in_progress_to_json(stored.row, log)


def get_parent(*, user_id: str, completion_id: str) -> dict[str, Any]:
    """The message that a completion answers. Raises NotFound."""
    stored = find_record(user_id=user_id, completion_id=completion_id)
    if stored is None:
        raise NotFound("completion")
    return messages.get_message(user_id=user_id, message_id=stored.row["parent_id"])


def cancel_completion_and_commit(*, user_id: str, completion_id: str) -> None:
    """Ask the worker that writes this reply to stop; it looks several times a second."""
    _REQUEST_CANCEL.first_and_commit(user_id=user_id, completion_id=completion_id)


def end_cancelled_and_commit(*, stored: StoredCompletion) -> StoredCompletion:
    """End a cancelled reply whose worker has not done so, with the text that was durable; how it ended.

    Raises NotFound.
    """
    finalize.end_cancelled_and_commit(stored)
    return find_completion(user_id=stored.row["user_id"], completion_id=stored.row["id"])


def _open_access(
    request: CompletionRequest,
) -> tuple[configs.Access, Listing[dict[str, Any]] | None]:
    """The provider with the user's key. Where new content comes at the end of the path, on Postgres also the newest
    page of what is before it, in the same round trip. Raises what `open_access` raises."""
    whose: dict[str, Any] = {"user_id": request.user_id, "provider_id": request.provider_id}
    if not statements.on_postgres() or request.content is None or request.parent_id is not None:
        return configs.open_access(**whose), None
    page, read = pages.reading_to_send(
        user_id=request.user_id, conversation_id=request.conversation_id, before=MAX_POSITION, limit=PAGE
    )
    rows, messages_before = statements.read_together(configs.reading_access(**whose), page)
    return configs.access_of(rows=rows, **whose), read(messages_before)


def _model(request: CompletionRequest, access: configs.Access) -> str:
    model = request.model or access.default_model
    if model is None:
        raise InvalidInput({"model": ["Missing, and your config for this provider has no default_model."]})
    return model


def _create(
    request: CompletionRequest,
    prepared: Prepared,
    worker_id: str,
    running_limit: int,
    *,
    at_once: bool = False,
) -> StartedCompletion:
    """With `at_once` the message that is new is stored with the completion, in the round trip that commits. Raises
    IntegrityFailed where that can't be."""
    scope: dict[str, Any] = {"user_id": request.user_id, "conversation_id": request.conversation_id}
    drafts: Sequence[Any] = ()
    if request.attachment_ids:  # before the conversation, as for messages
        drafts = attachments.lock_drafts(user_id=request.user_id, attachment_ids=request.attachment_ids)
    locked, running = statements.fetch_pipelined(
        (_LOCK, {**scope, "lock_number": _lock_number(request.user_id)}),
        (_RUNNING, {"user_id": request.user_id}),
    )
    if not locked:
        raise NotFound("conversation")
    _require_none_running(request, running, running_limit)
    _require_same_path(request, prepared, leaf_id=locked[0][0])
    completion = _started(request, prepared, worker_id)
    if at_once:
        parent = messages.append_last_and_commit(
            **scope,
            **prepared.message,
            words=prepared.words,
            last=lambda message_id: _insertion_of(replace(completion, parent={"id": message_id})),
        )
        return replace(completion, parent=parent)
    if request.content is not None:
        parent = messages.append_message(
            **scope,
            **prepared.message,
            words=prepared.words,
            file_hashes=[draft.sha256 for draft in drafts],
        )
        completion = replace(completion, parent=parent)
        if drafts:
            attachments.attach_drafts(user_id=request.user_id, message_id=parent["id"], drafts=drafts)
    insert, parameters = _insertion_of(completion)
    statements.execute_at_end(insert, **parameters)
    return completion


def _insertion_of(completion: StartedCompletion) -> Call:
    return _INSERT, named_new(completion.to_row())


def _started(request: CompletionRequest, prepared: Prepared, worker_id: str) -> StartedCompletion:
    """The completion, which answers the message that was prepared, or one that is to be appended."""
    context = prepared.context
    return StartedCompletion(
        user_id=request.user_id,
        conversation_id=request.conversation_id,
        id=new_id(),
        branch_id=request.parent_id,
        message_id=new_id(),
        provider_id=request.provider_id,
        model=prepared.model,
        worker_id=worker_id,
        created_at=now(),
        prompt_tokens=context.tokens,
        omitted_messages=context.omitted,
        omitted_attachments=context.omissions,
        warnings=prepared.warnings,
        endpoint=prepared.endpoint,
        settings_version=prepared.access.settings_version,
        request=prepared.request,
        parent=prepared.parent or {},
        asked=request.asked,
        kept_as=request.kept_as,
    )


def _repair_and_commit(request: CompletionRequest) -> None:
    """Repair a conversation whose row says another end of the path than its messages; else others append to it."""
    repair_and_commit(user_id=request.user_id, conversation_id=request.conversation_id)


def _require_same_path(request: CompletionRequest, prepared: Prepared, *, leaf_id: Any) -> None:
    """What was read is the path to where the reply comes: what leads to a message never changes, so its end says so.

    A message that is named becomes the end of the active path, so that the reply extends what the model gets.
    """
    end = request.parent_id or (str(leaf_id) if leaf_id else None)
    if prepared.context.is_torn or prepared.context.leaf_id != end:
        raise _PathMoved()
    if request.parent_id is not None:
        active_path.set_active_leaf(
            user_id=request.user_id, conversation_id=request.conversation_id, message_id=request.parent_id
        )


def _lock_number(user_id: str) -> int:
    """The number of the user's advisory lock on Postgres."""
    return int.from_bytes(bytes.fromhex(user_id.replace("-", ""))[8:], signed=True)


def _find_parent(request: CompletionRequest) -> tuple[dict[str, Any] | None, Branch | None]:
    """The message that is named, or without new content the last one; None where the new content is answered.

    Of one that is named also its branch, to which the path is moved only where a completion begins.
    """
    scope = {"user_id": request.user_id, "conversation_id": request.conversation_id}
    if request.parent_id is None:
        return _find_leaf(request), None
    conversations.require_conversation(**scope)
    branch = active_path.find_branch(**scope, message_id=request.parent_id)
    return messages.get_message(user_id=request.user_id, message_id=request.parent_id), branch


def _find_leaf(request: CompletionRequest) -> dict[str, Any] | None:
    """The last message of the active path; None where new content follows it."""
    if request.content is not None:
        return None
    scope = {"user_id": request.user_id, "conversation_id": request.conversation_id}
    last = messages.find_last_message(**scope)
    if last is None:
        conversations.require_conversation(**scope)
        raise InvalidInput({"content": ["Missing, and the conversation has no message to reply to yet."]})
    return last


def _require_none_running(request: CompletionRequest, running: list[Any], running_limit: int) -> None:
    """One completion at a time in a conversation, or several that each name another parent; and so many of one user."""
    for *_, is_over in running:
        if is_over:
            raise _WorkerLost()
    for conversation_id, parent_id, branch_id, _ in running:
        if str(conversation_id) == request.conversation_id:
            if request.is_alone or request.parent_id in (None, str(parent_id), str(branch_id)):
                raise _busy()
    if len(running) >= running_limit:
        raise TooManyRequests(
            f"You already have {running_limit} completions in progress; wait for one to finish or cancel one.",
            retry_after_s=RETRY_AFTER_S,
        )


def _busy() -> Conflict:
    return Conflict(
        "A completion is in progress in this conversation: follow it, cancel it, or name another parent_id."
    )


@contextmanager
def _conflict_where_busy() -> Iterator[None]:
    """The unique index on running completions is the last word on whether one may start."""
    try:
        yield
    except IntegrityFailed as error:
        raise _busy() from error


def _new_message(request: CompletionRequest) -> dict[str, Any]:
    """The columns of the message that is appended; none where nothing is."""
    if request.content is None:
        return {}
    body: dict[str, Any] = {"role": "user", "content": request.content}
    return messages.stored_fields(body={**body, "parts": request.parts} if request.parts else body)


def _newest(request: CompletionRequest) -> dict[str, Any] | None:
    """The same as it is sent, with its attachments. Raises NotFound and Conflict."""
    if request.content is None:
        return None
    newest: dict[str, Any] = {"content": request.content, "parts": request.parts}
    if request.attachment_ids:
        newest["attachments"] = sendable.list_drafts(
            user_id=request.user_id, attachment_ids=request.attachment_ids
        )
    return newest


def _context(
    request: CompletionRequest,
    access: configs.Access,
    endpoint: Endpoint,
    model: str,
    parent: dict[str, Any] | None,
    branch: Branch | None,
    newest_page: Listing[dict[str, Any]] | None,
) -> Context:
    config = current_app.config
    files = FilesOfMessages(
        user_id=request.user_id,
        takes=cache(lambda: abilities_of(endpoint, known_lacks(request.user_id, endpoint, model))),
        limits=Limits(config["MAX_SENT_FILE_BYTES"], config["MAX_SENT_FILE_TOKENS"]),
    )
    window = access.context_window or config["CONTEXT_WINDOW_TOKENS"]
    return choose_context(
        user_id=request.user_id,
        conversation_id=request.conversation_id,
        up_to=parent["position"] if parent else MAX_POSITION - 1,
        newest=_newest(request),
        instructions=request.instructions,
        window=ENDLESS if request.is_whole else window,
        max_tokens=min(
            (request.parameters[name] for name in LIMITS if request.parameters.get(name)), default=None
        ),
        max_bytes=config["MAX_CONTEXT_BYTES"],
        provider_id=request.provider_id,
        model=model,
        files=files,
        branch=branch,
        newest_page=newest_page,
    )
