"""Which messages of a conversation are sent: all, or as many of the newest turns as the model's window takes in."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..llm.events import ToolCall
from ..llm.request import ChatMessage
from ..messages import active_path, pages
from ..messages import service as messages
from ..messages.active_path import Branch
from ..messages.parts import is_place_only
from ..web.pagination import Listing
from .omissions import MAX_LISTED, Omission
from .provider_states import state_for
from .sent_files import FilesOfMessages
from .token_estimates import BYTES_PER_TOKEN, tokens_of

TOKENS_AROUND_MESSAGE = 4  # role and separators
MAX_RESERVED_FOR_REPLY = 4096
MAX_MESSAGES = 10_000  # however short they are: each takes about a kilobyte of memory
MAX_INSTRUCTIONS = 100  # system messages before what is sent; more than that are hardly instructions
PAGE = 200
_PAGE_BYTES = 1024 * 1024

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What is sent of a conversation."""

    messages: tuple[ChatMessage, ...]
    omitted: int  # how many messages were left out
    tokens: int  # estimated
    leaf_id: str | None  # the newest stored message that was read: where the path ended
    is_torn: bool  # whether these messages do not follow each other: the path was moved while it was read
    omissions: tuple[Omission, ...]  # attachments of these messages that are not sent, the newest first


def choose_context(
    *,
    user_id: str,
    conversation_id: str,
    up_to: int,
    newest: Message | None,
    window: int,
    max_tokens: int | None,
    max_bytes: int,
    provider_id: str,
    model: str,
    files: FilesOfMessages,
    branch: Branch | None = None,
    instructions: str | None = None,
    newest_page: Listing[Message] | None = None,
) -> Context:
    """The messages of the active path, which ends at this position, and after them the user's `newest`, which has
    `content`, and may have `parts` and `attachments`.

    With a `branch` those of the path up to its fork and those of the branch: as if the path had been moved there.
    Where `window` is too small for all of them and the reply, the oldest turns are left out; system messages and the
    newest turn stay. A turn begins with a user's message, and is not cut off between a call and its result. The same
    goes for `max_bytes`, whatever the window, except that of a turn which alone has more only its end stays.

    What a provider sent with a message for itself is part of it where this `provider_id` and `model` wrote it. The
    users' messages get their `files`, whose errors this raises. `instructions` come before all of them.
    `newest_page` is the first page of the active path from its end, of `PAGE` messages, if it was read already.
    """
    reserved = max_tokens or min(MAX_RESERVED_FOR_REPLY, window // 4)
    most = max_bytes // BYTES_PER_TOKEN
    budget = _Budget(window - reserved, most, has_turn=newest is not None)
    given = [{"role": "system", "content": instructions}] if instructions else []
    budget = budget.less(sum(map(_tokens, given)))
    if newest:
        newest |= {"position": up_to + 1, "role": "user"}
        files.add_to(newest, room=budget.room)
        budget = budget.less(_tokens(newest))
    path = _Path(user_id, conversation_id, up_to, branch, provider_id, model, files, newest_page)
    kept, is_all = _newest_turns(path.backwards(), budget, files)
    stored: list[Message] = []
    if not is_all:
        stored = path.instructions(most // 2 * BYTES_PER_TOKEN)
        kept, _ = _newest_turns(reversed(kept), budget.less(sum(map(_tokens, stored))))
    first = kept[0]["position"] if kept else up_to + 1
    stored = [message for message in stored if message["position"] < first]
    omitted = 0
    if not is_all:
        omitted = path.length() - len(kept) - len(stored)
    sent = [*given, *stored, *kept, *([newest] if newest else [])]
    return Context(
        messages=tuple(map(_as_sent, sent)),
        omitted=omitted,
        tokens=sum(map(_tokens, sent)),
        leaf_id=path.leaf_id,
        is_torn=path.is_torn,
        omissions=tuple(
            islice((each for message in reversed(sent) for each in message.get("omissions", ())), MAX_LISTED)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Budget:
    """What may be sent, in tokens."""

    window: int  # the newest turn stays even where it alone is larger: the provider's error says so best
    most: int  # and never more than this
    has_turn: bool  # whether there is a newest turn besides the messages that are stored

    @property
    def room(self) -> int:
        """How much may be sent."""
        return min(self.window, self.most)

    def less(self, tokens: int) -> "_Budget":
        """What remains of it."""
        return _Budget(self.window - tokens, self.most - tokens, self.has_turn)


def _newest_turns(
    backwards: Iterator[Message], budget: _Budget, files: FilesOfMessages | None = None
) -> tuple[list[Message], bool]:
    """The newest turns that fit, oldest message first, and whether these are all there are.

    Messages get the files that have room.
    """
    read = _ReadBackwards()
    window, most = budget.window, budget.most
    for message in backwards:
        if files is not None:
            files.add_to(message, room=min(window, most))
        tokens = _tokens(message)
        window, most = window - tokens, most - tokens
        is_beyond = most < 0 or len(read.messages) >= MAX_MESSAGES
        has_turn = budget.has_turn or read.turns_end > 0
        if (window < 0 or is_beyond) and has_turn:
            return read.turns(), False
        if is_beyond and read.messages:
            return _from_its_call(read.messages[::-1]), False
        read.add(message)
        # no user's message at all: without a turn, a page has to be the limit
        if window < 0 and not read.turns_end and len(read.messages) >= PAGE and message["role"] != "user":
            return _from_its_call(read.messages[::-1]), False
    return read.messages[::-1], True  # what precedes the first user's message belongs to the beginning


class _ReadBackwards:
    """The messages that have been read, newest first, and where they may be cut off: before a user's message, but not
    between a call and its result, which may have come turns later."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._ends: list[int] = []  # how many messages there are up to the beginning of each turn
        self._last_end = 0  # of all turns, whether they may be cut off there or not
        self._results: dict[str, int] = {}  # the newest result of each call that has not been read yet

    @property
    def turns_end(self) -> int:
        """How many messages all whole turns have."""
        return self._ends[-1] if self._ends else 0

    def turns(self) -> list[Message]:
        """The messages of the whole turns that may be cut off there, oldest first.

        A call and its result are cut off together, unless nothing would be sent then: the result is sent as a text.
        """
        first = min(self._results.values(), default=self.turns_end)
        end = next((end for end in reversed(self._ends) if end <= first), self.turns_end or self._last_end)
        return self.messages[:end][::-1]

    def add(self, message: Message) -> None:
        """Add the message before those that have been read."""
        index = len(self.messages)
        self.messages.append(message)
        if message["role"] == "user":
            self._last_end = index + 1
            self._ends.append(self._last_end)
        elif message["role"] == "tool" and message.get("tool_call_id") is not None:
            self._results.setdefault(message["tool_call_id"], index)
        for call in message.get("tool_calls", ()):
            result = self._results.pop(call["id"], None)
            while result is not None and self._ends and self._ends[-1] > result:
                self._ends.pop()


def _from_its_call(turn: list[Message]) -> list[Message]:
    """The end of a turn without the tools' results at its beginning, whose call was left out."""
    begin = next((index for index, message in enumerate(turn) if message["role"] != "tool"), len(turn))
    return turn[begin:]


@dataclass(slots=True)
class _Path:
    """The messages that lead to where the new one is added."""

    user_id: str
    conversation_id: str
    up_to: int
    branch: Branch | None
    provider_id: str
    model: str
    files: FilesOfMessages
    newest_page: Listing[Message] | None  # if it was read already
    leaf_id: str | None = None  # the newest of them, when they were read
    is_torn: bool = False  # see `Context`

    @property
    def _fork(self) -> int:
        """Up to which position it is the active path."""
        return self.up_to if self.branch is None else self.branch.fork

    def backwards(self) -> Iterator[Message]:
        """All of them, newest first, read page by page."""
        self.leaf_id, self.is_torn = None, False
        next_id: Any = None
        for message in self._read_backwards():
            self.is_torn |= self.leaf_id is not None and message["id"] != next_id
            next_id = message["parent_id"]
            self.leaf_id = self.leaf_id or str(message["id"])
            stored = message.pop("provider_state", None)
            state = state_for(stored, provider_id=self.provider_id, model=self.model)
            if state is not None:
                message["state"], message["state_tokens"] = state, tokens_of(stored)
            if not is_place_only(message):
                yield message
        self.is_torn |= next_id is not None

    def _read_backwards(self) -> Iterator[Message]:
        for page in self._read_pages():
            self.files.find(page)
            yield from reversed(page)

    def _read_pages(self) -> Iterator[list[Message]]:
        for message_ids in _pages_of(self.branch) if self.branch else ():
            yield messages.list_to_send(user_id=self.user_id, message_ids=message_ids)
        before, has_more = self._fork + 1, self._fork > 0
        while has_more:
            listing, self.newest_page = self.newest_page, None
            if listing is None:
                listing = pages.list_to_send(
                    user_id=self.user_id, conversation_id=self.conversation_id, before=before, limit=PAGE
                )
            has_more = listing.has_more_before
            yield listing.items
            if listing.items:
                before = listing.items[0]["position"]

    def instructions(self, max_bytes: int) -> list[Message]:
        """The first of its system messages."""
        on_path = messages.list_instructions(
            user_id=self.user_id,
            conversation_id=self.conversation_id,
            before=self._fork + 1,
            limit=MAX_INSTRUCTIONS,
        )
        on_branch = reversed(self.branch.messages if self.branch else [])
        sizes = dict(on_path)
        sizes |= {
            message.id: message.size_bytes for message in on_branch if message.role in ("system", "developer")
        }
        chosen: list[str] = []
        for message_id, size_bytes in sizes.items():
            max_bytes -= size_bytes
            if max_bytes < 0 or len(chosen) == MAX_INSTRUCTIONS:
                break
            chosen.append(message_id)
        found = messages.list_to_send(user_id=self.user_id, message_ids=chosen) if chosen else []
        return [message for message in found if not is_place_only(message)]

    def length(self) -> int:
        """How many they are."""
        scope = {"user_id": self.user_id, "conversation_id": self.conversation_id}
        if self.branch is None:
            return active_path.path_length(**scope)
        return active_path.branch_length(**scope, branch=self.branch)


def _pages_of(branch: Branch) -> Iterator[list[str]]:
    """The ids of a branch, newest first, in pages of a bounded size."""
    page: list[str] = []
    page_bytes = 0
    for message in branch.messages:
        if page and (len(page) == PAGE or page_bytes + message.size_bytes > _PAGE_BYTES):
            yield page
            page, page_bytes = [], 0
        page.append(message.id)
        page_bytes += message.size_bytes
    if page:
        yield page


def _tokens(message: Message) -> int:
    calls = sum(tokens_of(call["name"] + call["arguments"]) for call in message.get("tool_calls", ()))
    own = message.get("state_tokens", 0) + message.get("file_tokens", 0)
    return tokens_of(message["content"]) + calls + own + TOKENS_AROUND_MESSAGE


def _as_sent(message: Message) -> ChatMessage:
    return ChatMessage(
        role=message["role"],
        content=message["content"],
        tool_calls=tuple(ToolCall(**call) for call in message.get("tool_calls", ())),
        tool_call_id=message.get("tool_call_id"),
        state=message.get("state"),
        parts=message.get("parts_to_send", ()),
    )
