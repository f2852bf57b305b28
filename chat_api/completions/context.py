"""Which messages of a conversation are sent: all, or as many of the newest turns as the model's window takes in.

Tokens are estimated, at four bytes of UTF-8 for one: near enough for English, German or Chinese with the
today's tokenizers, and no tokenizer has to be known for every model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..llm.events import ToolCall
from ..llm.request import ChatMessage
from ..messages import active_path, pages
from ..messages import service as messages
from ..messages.active_path import Branch
from ..web.pagination import Page

BYTES_PER_TOKEN = 4
TOKENS_AROUND_MESSAGE = 4  # role and separators
MAX_RESERVED_FOR_REPLY = 4096
MAX_INSTRUCTIONS = 100  # system messages before what is sent; more than that are hardly instructions
_PAGE = 200
_PAGE_BYTES = 1024 * 1024

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What is sent of a conversation."""

    messages: tuple[ChatMessage, ...]
    omitted: int  # how many messages were left out
    tokens: int  # estimated


def choose_context(
    *,
    user_id: str,
    conversation_id: str,
    up_to: int,
    content: str | None,
    window: int,
    max_tokens: int | None,
    branch: Branch | None = None,
) -> Context:
    """The messages of the active path, which ends at this position, and after them `content` as the user's newest.

    With a `branch` those of the path up to its fork and those of the branch: as if the path had been moved there.
    Where `window` is too small for all of them and the reply, the oldest turns are left out; system messages and the
    newest turn stay. A turn begins with a user's message, so no tool's result is sent without its call.
    """
    newest = {"position": up_to + 1, "role": "user", "content": content} if content is not None else None
    budget = (
        window - (max_tokens or min(MAX_RESERVED_FOR_REPLY, window // 4)) - (_tokens(newest) if newest else 0)
    )
    path = _Path(user_id, conversation_id, up_to, branch)
    kept, is_all = _newest_turns(path.backwards(), budget, has_turn=newest is not None)
    instructions: list[Message] = []
    if not is_all:
        instructions = path.instructions()
        budget -= sum(map(_tokens, instructions))
        kept, _ = _newest_turns(path.backwards(), budget, has_turn=newest is not None)
    first = kept[0]["position"] if kept else up_to + 1
    instructions = [message for message in instructions if message["position"] < first]
    omitted = 0
    if not is_all:
        omitted = path.length() - len(kept) - len(instructions)
    sent = [*instructions, *kept, *([newest] if newest else [])]
    return Context(
        messages=tuple(
            _as_sent(message) for message in sent if message["content"] or message.get("tool_calls")
        ),
        omitted=omitted,
        tokens=sum(map(_tokens, sent)),
    )


def tokens_of(text: str) -> int:
    """How many tokens a text has, estimated."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _newest_turns(backwards: Iterator[Message], budget: int, *, has_turn: bool) -> tuple[list[Message], bool]:
    """The newest turns that fit, oldest message first, and whether these are all there are.

    The newest turn of all stays even where it alone is too large: the provider's error says so best.
    """
    kept: list[Message] = []  # newest first
    turn: list[Message] = []
    for message in backwards:
        turn.append(message)
        budget -= _tokens(message)
        if budget < 0 and has_turn:
            return kept[::-1], False
        if message["role"] == "user":
            kept += turn
            turn, has_turn = [], True
        elif (
            budget < 0 and len(turn) >= _PAGE
        ):  # no user's message at all: without a turn, a page has to be the limit
            return turn[::-1], False
    kept += turn  # what precedes the first user's message belongs to the beginning
    return kept[::-1], True


@dataclass(frozen=True, slots=True)
class _Path:
    """The messages that lead to where the new one is added."""

    user_id: str
    conversation_id: str
    up_to: int
    branch: Branch | None

    @property
    def _fork(self) -> int:
        """Up to which position it is the active path."""
        return self.up_to if self.branch is None else self.branch.fork

    def backwards(self) -> Iterator[Message]:
        """All of them, newest first, read page by page."""
        for message_ids in _pages_of(self.branch) if self.branch else ():
            yield from reversed(messages.list_by_ids(user_id=self.user_id, message_ids=message_ids))
        before, has_more = self._fork + 1, self._fork > 0
        while has_more:
            page = Page(limit=_PAGE, before=before)
            listing = pages.list_messages(
                user_id=self.user_id, conversation_id=self.conversation_id, page=page
            )
            has_more = listing.has_more_before
            yield from reversed(listing.items)
            if listing.items:
                before = listing.items[0]["position"]

    def instructions(self) -> list[Message]:
        """The first of its system messages."""
        found = messages.list_instructions(
            user_id=self.user_id,
            conversation_id=self.conversation_id,
            before=self._fork + 1,
            limit=MAX_INSTRUCTIONS,
        )
        first = [
            {"position": position, "role": role, "content": content} for position, role, content in found
        ]
        on_branch = self.branch.messages if self.branch else []
        ids = [message.id for message in reversed(on_branch) if message.role in ("system", "developer")]
        ids = ids[: MAX_INSTRUCTIONS - len(first)]
        return first + (messages.list_by_ids(user_id=self.user_id, message_ids=ids) if ids else [])

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
        if page and (len(page) == _PAGE or page_bytes + message.size_bytes > _PAGE_BYTES):
            yield page
            page, page_bytes = [], 0
        page.append(message.id)
        page_bytes += message.size_bytes
    if page:
        yield page


def _tokens(message: Message) -> int:
    calls = sum(tokens_of(call["name"] + call["arguments"]) for call in message.get("tool_calls", ()))
    return tokens_of(message["content"]) + calls + TOKENS_AROUND_MESSAGE


def _as_sent(message: Message) -> ChatMessage:
    return ChatMessage(
        role=message["role"],
        content=message["content"],
        tool_calls=tuple(ToolCall(**call) for call in message.get("tool_calls", ())),
        tool_call_id=message.get("tool_call_id"),
    )
