"""A turn as clients of other dialects send it: messages, or a whole history, and a reply to them.

The messages decide where they belong: what is stored of them already is recognised, and the others are appended after
it, as a branch where something follows there. What no conversation has begins one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import orjson

from ..attachments.references import FoundFile, LinkedFile, attach_files
from ..conversations import service as conversations
from ..conversations.titles import first_words, title_in
from ..database.chaining import chained
from ..database.columns import new_id
from ..database.session import db, session_and_commit
from ..idempotency.retries import Attempt
from ..messages import service as messages
from ..messages.chain import digest_of
from ..messages.histories import Place, find_longest
from ..messages.parts import ATTACHMENT, TEXT, encoded
from ..search_index.writer import Words, words_of
from . import service
from .changed_histories import find_changed
from .draft_files import DraftPart, files_of, find_named, hash_of
from .records import KeptAs, StartedCompletion
from .service import CompletionRequest, Prepared

PROMPTS = ("system", "developer")  # the roles of what is said before a conversation


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that a client sends."""

    role: str
    content: str
    tool_calls: Sequence[Mapping[str, str]] = ()
    tool_call_id: str | None = None
    external_id: str | None = None  # what its client calls it
    output_kind: str | None = None  # of a tool's message
    parts: Sequence[DraftPart] = ()  # of a content that has files; `content` has the texts

    @property
    def file_hashes(self) -> list[str]:
        """What its files are compared by."""
        return [hash_of(file) for file in files_of(self.parts)]

    @property
    def digest(self) -> str:
        """What it says, as it is compared."""
        return digest_of(
            role=self.role,
            content=self.content,
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
            file_hashes=self.file_hashes,
        )

    @property
    def fields(self) -> dict[str, Any]:
        """Its columns."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            fields["tool_calls"] = orjson.dumps(list(self.tool_calls)).decode()
        if self.tool_call_id is not None:
            fields["tool_call_id"] = self.tool_call_id
        if self.external_id is not None:
            fields["external_id"] = self.external_id
        if self.output_kind is not None:
            fields["output_kind"] = self.output_kind
        return fields

    def stored(self) -> "StoredDraft":
        """What is stored of it, with ids for its attachments."""
        files: list[tuple[str, FoundFile | LinkedFile]] = []
        parts: list[dict[str, str]] = []
        for part in self.parts:
            if isinstance(part, str):
                parts.append({"type": TEXT, "text": part})
            elif isinstance(part, FoundFile | LinkedFile):
                files.append((new_id(), part))
                parts.append({"type": ATTACHMENT, "attachment_id": files[-1][0]})
            else:
                raise TypeError("The files of a message are stored before it is.")
        fields = {**self.fields, "parts": encoded(parts)} if files else self.fields
        return StoredDraft(fields, files, self.file_hashes)


class StoredDraft(NamedTuple):
    """The columns of a message, and its attachments."""

    fields: dict[str, Any]
    files: Sequence[tuple[str, FoundFile | LinkedFile]]
    file_hashes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a client asks for. `drafts` has one message at least, unless it is placed at a message to answer."""

    user_id: str
    provider_id: str
    model: str
    drafts: Sequence[Draft]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    conversation_id: str | None = None  # that it names; else the messages decide
    source: str = "native"
    metadata: Mapping[str, str] = field(default_factory=dict)
    external_id: str | None = None  # what its client calls a conversation that begins with it
    is_alone: bool = False  # no other reply may be in progress in the conversation
    place: Place | None = None  # where it belongs, if that is known
    attempt: Attempt | None = None  # which try of its request it is
    recognises: bool = True  # whether it may be a history of which something is stored
    instructions: str | None = None  # before all that is sent, for this reply alone
    is_whole: bool = False  # nothing is left out, whatever the model's window
    kept_as: KeptAs | None = None  # as what its reply is kept, if it is
    asked: str | None = None  # what its client asked, as JSON, to be repeated in answers
    check: Callable[[Prepared], None] | None = None  # raises where what would be sent can't be
    goes_back: bool = False  # where the reply fails before its first word, the active path is as before


@dataclass(frozen=True, slots=True)
class PlacedTurn:
    """A turn, and where it belongs."""

    turn: Turn
    place: Place | None  # None: after all that its conversation has, or in a new one
    words: Sequence[Words]  # of the messages that are not stored yet

    @property
    def new_drafts(self) -> Sequence[Draft]:
        """The messages that are not stored yet."""
        return self.turn.drafts[self.place.length :] if self.place else self.turn.drafts


def place_turn(*, turn: Turn, is_new: bool = False) -> PlacedTurn:
    """Find where a turn belongs, before anything is locked; with `is_new` in a conversation of its own.

    That the user has a conversation that it names is for the caller to check.
    """
    turn = with_named_files(turn=turn)
    place = None if is_new else turn.place
    if place is None and turn.recognises and not is_new:
        place = _find_place(turn)
    return placed_at(turn=turn, place=place)


def with_named_files(*, turn: Turn) -> Turn:
    """The turn with the files that its messages name by ids. Only reads. Raises NotFound."""
    drafts = drafts_with_named_files(user_id=turn.user_id, drafts=turn.drafts)
    return turn if drafts is turn.drafts else replace(turn, drafts=drafts)


def drafts_with_named_files(*, user_id: str, drafts: Sequence[Draft]) -> Sequence[Draft]:
    """Messages with the files that they name by ids. Only reads. Raises NotFound."""
    all_parts = [draft.parts for draft in drafts]
    if not any(all_parts):
        return drafts
    found = find_named(user_id=user_id, all_parts=all_parts)
    return [replace(draft, parts=parts) for draft, parts in zip(drafts, found, strict=True)]


def placed_at(*, turn: Turn, place: Place | None) -> PlacedTurn:
    """A turn whose place is known."""
    placed = PlacedTurn(turn, place, ())
    return PlacedTurn(turn, place, [words_of(draft.content) for draft in placed.new_drafts])


def _find_place(turn: Turn) -> Place | None:
    """Where the longest part ends that is stored. It has an assistant's message: beginnings alone are no history."""
    roles = [draft.role for draft in turn.drafts]
    if "assistant" not in roles:
        return None
    digests = [draft.digest for draft in turn.drafts]
    chain_hashes, before = [], ""
    for digest in digests:
        before = chained(before, digest) or ""
        chain_hashes.append(before)
    found = find_longest(
        user_id=turn.user_id,
        chain_hashes=chain_hashes,
        shortest=roles.index("assistant") + 1,
        conversation_id=turn.conversation_id,
    )
    if found is not None or turn.conversation_id is None:
        return found
    return find_changed(
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        digests=digests,
        chain_hashes=chain_hashes,
        prompts=next(index for index, role in enumerate(roles) if role not in PROMPTS),
    )


def create_turn(*, placed: PlacedTurn, worker_id: str, running_limit: int) -> StartedCompletion:
    """Store the messages that are new, and a completion in progress that answers the last one.

    In the transaction of `db.session`. Raises what `service.create_completion` raises, and QuotaExceeded.
    """
    db.session.connection()  # begins the transaction
    return _stored(
        placed, partial(service.create_completion, worker_id=worker_id, running_limit=running_limit)
    )


def create_turn_and_commit(*, placed: PlacedTurn, worker_id: str, running_limit: int) -> StartedCompletion:
    """As `create_turn`, in a transaction of its own, with fewer round trips where the messages are all there is to it.

    Where the conversation may have others, their files may have to be prepared, which takes transactions too.
    """
    turn = placed.turn
    is_all = turn.conversation_id is None and turn.place is None
    if is_all and not any(draft.parts for draft in turn.drafts):
        create = partial(service.create_at_once, worker_id=worker_id, running_limit=running_limit)
        try:
            with service.beginning_and_commit():
                return _stored(placed, create)
        except service.IN_THE_WAY:
            pass
    with session_and_commit():
        return create_turn(placed=placed, worker_id=worker_id, running_limit=running_limit)


def _stored(placed: PlacedTurn, create: Callable[..., StartedCompletion]) -> StartedCompletion:
    turn, place = placed.turn, placed.place
    rows = stored_within_quota(user_id=turn.user_id, drafts=placed.new_drafts)
    path_before = _path_before(placed)
    scope: dict[str, Any] = {"user_id": turn.user_id, "conversation_id": _conversation_of(placed)}
    last_id = place.message_id if place else None
    parent: dict[str, Any] = {"parent_id": last_id} if place else {}
    if made := append_stored(**scope, **parent, rows=rows, words=placed.words):
        last_id = made[-1]["id"]
    request = CompletionRequest(
        **scope,
        provider_id=turn.provider_id,
        model=turn.model,
        parent_id=last_id if place else None,
        parameters=turn.parameters,
        is_alone=turn.is_alone,
        instructions=turn.instructions,
        is_whole=turn.is_whole,
        asked=turn.asked,
        kept_as=turn.kept_as,
    )
    prepared = service.prepare_completion(request=request)
    if turn.check is not None:
        turn.check(prepared)
    completion = create(request=request, prepared=prepared)
    if turn.attempt is not None:
        turn.attempt.remember(completion.id)
    return replace(completion, path_before=path_before)


def stored_within_quota(*, user_id: str, drafts: Sequence[Draft]) -> list[StoredDraft]:
    """What is to be stored of messages, for which the user has room. Raises QuotaExceeded."""
    rows = [draft.stored() for draft in drafts]
    size_bytes = sum(messages.size_of(fields=row.fields) for row in rows)
    conversations.QUOTAS.require_room(0, len(rows), size_bytes, user_id=user_id)
    return rows


def append_stored(
    *,
    user_id: str,
    conversation_id: str,
    rows: Sequence[StoredDraft],
    words: Sequence[Words],
    parent_id: str | None = messages.LEAF,
    is_recognised: bool = True,
) -> list[dict[str, Any]]:
    """Append messages one after the other, the first to `parent_id`, in the caller's transaction.

    Without `is_recognised` no history that has them is found by them. Raises NotFound.
    """
    made = []
    for row, its in zip(rows, words, strict=True):
        message = messages.append_message(
            user_id=user_id,
            conversation_id=conversation_id,
            parent_id=parent_id,
            words=its,
            file_hashes=row.file_hashes,
            is_recognised=is_recognised,
            **row.fields,
        )
        attach_files(user_id=user_id, message_id=message["id"], files=row.files)
        made.append(message)
        parent_id = messages.LEAF
    return made


def _first_words(drafts: Sequence[Draft]) -> str:
    """What the user says first, in a few words: the list of conversations shows a reply in progress, or one that has
    failed, by it."""
    said = (draft.content for draft in drafts if draft.role == "user" and draft.content)
    return first_words(next(said, ""))


def _path_before(placed: PlacedTurn) -> str | None:
    """Where the active path ends before a turn that goes back there; None where it does not, or nowhere."""
    turn, place = placed.turn, placed.place
    conversation_id = place.conversation_id if place else turn.conversation_id
    if not turn.goes_back or conversation_id is None:
        return None
    found = conversations.get_conversation(user_id=turn.user_id, conversation_id=conversation_id)
    return found["active_leaf_id"]


def _conversation_of(placed: PlacedTurn) -> str:
    turn = placed.turn
    if placed.place is not None:
        return placed.place.conversation_id
    if turn.conversation_id is not None:
        return turn.conversation_id
    return conversations.begin_conversation(
        user_id=turn.user_id,
        title=title_in(turn.metadata) or _first_words(turn.drafts),
        metadata=turn.metadata,
        source=turn.source,
        external_id=turn.external_id,
    )
