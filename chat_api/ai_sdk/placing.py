"""Where a request of the AI SDK belongs in the store. Of the history that it sends only ids are looked at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..attachments import sendable
from ..completions import draft_files, finding
from ..completions.turns import Draft
from ..conversations import service as conversations
from ..messages import service as messages
from ..messages.answers import ANSWERS, answers_after, answers_up_to, read_path
from ..messages.external_ids import Named, find_named
from ..messages.histories import Place
from ..openai_api import ids
from ..web.pagination import MAX_POSITION
from .errors import RequestRefused
from .requests import REGENERATE, Sent, SentMessage, results_of
from .ui_messages import Message, calls_of, id_of, outputs_of

MAX_LOOKED_AT = 20  # messages that are sent, from the last one back
NOTHING_TO_ANSWER = "There is nothing to answer."


@dataclass(frozen=True, slots=True)
class Placed:
    """What is new of a request, and where it belongs; or the reply that it has already."""

    conversation_id: str | None  # None: it begins one
    drafts: list[Draft] = field(default_factory=list)
    place: Place | None = None  # None: after all that there is
    message_id: str | None = None  # of the UIMessage that the reply goes on with; None: it begins one
    before: Sequence[Message] = ()  # what there is of that already
    completion_id: str | None = None  # of the reply that it has already


def find_chat(*, user_id: str, chat_id: str) -> dict[str, Any] | None:
    """The conversation that a client calls this, or whose id it is."""
    found = conversations.find_by_external_id(user_id=user_id, external_id=chat_id)
    if found is not None or (conversation_id := ids.read(chat_id)) is None:
        return found
    if not conversations.has_conversation(user_id=user_id, conversation_id=conversation_id):
        return None
    return conversations.get_conversation(user_id=user_id, conversation_id=conversation_id)


def place(*, user_id: str, sent: Sent) -> Placed:
    """Find where a request belongs. Raises RequestRefused, also where there is nothing to answer."""
    chat = find_chat(user_id=user_id, chat_id=sent.chat_id)
    if chat is None:
        return _new_chat(user_id, sent)
    placing = _Placing(user_id, chat["id"], sent)
    if sent.trigger == REGENERATE:
        return placing.regenerated()
    if sent.last.role == "assistant":
        return placing.with_results()
    return placing.with_message()


def _new_chat(user_id: str, sent: Sent) -> Placed:
    """A chat that begins with all that its client has: the app may have greeted."""
    drafts = _with_files(user_id, [draft for message in sent.messages for draft in message.drafts()])
    if not drafts or drafts[-1].role == "assistant":
        raise RequestRefused(NOTHING_TO_ANSWER)
    group = sent.last.id if drafts[-1].role == "tool" else None
    return Placed(None, drafts, message_id=group)


def _with_files(user_id: str, drafts: list[Draft]) -> list[Draft]:
    """The same with the files that they name. Raises NotFound."""
    if not any(draft.parts for draft in drafts):
        return drafts
    found = draft_files.find_named(user_id=user_id, all_parts=[draft.parts for draft in drafts])
    return [replace(draft, parts=parts) for draft, parts in zip(drafts, found, strict=True)]


class _Placing:
    """The place of one request in a chat that exists."""

    def __init__(self, user_id: str, conversation_id: str, sent: Sent) -> None:
        self._scope = {"user_id": user_id, "conversation_id": conversation_id}
        self._sent = sent
        self._recent = sent.messages[-MAX_LOOKED_AT:]
        names = [message.id for message in self._recent]
        self._named = find_named(**self._scope, names=[*names, sent.message_id] if sent.message_id else names)

    def with_message(self) -> Placed:
        """A message of a user: new, edited, or sent again."""
        drafts = _with_files(self._scope["user_id"], self._sent.last.drafts())
        if not drafts:
            raise RequestRefused(f"{self._sent.last.where} is empty.")
        [draft] = drafts
        known = self._named.get(draft.external_id or "")
        if known is None or known.role != draft.role:
            return self._placed(self._last_known(self._recent[:-1]), [draft])
        if not self._says_the_same(known, draft):
            return self._placed_at(known.parent_id, [draft])
        recent = self._recent_answer(known.id) if self._sent.message_id is None else None
        return self._answered(recent) if recent else self._placed_at(known.id)

    def with_results(self) -> Placed:
        """Results of tools, in the message whose calls they answer."""
        group = self._group()
        group_id = id_of(group[0])
        calls, answered = calls_of(group), outputs_of(group)
        results = [result for result in results_of(self._sent.last) if result.call_id in calls]
        new = [
            replace(result, call_id=calls[result.call_id]).draft
            for result in results
            if result.call_id not in answered
        ]
        if new:
            placed = self._placed_at(group[-1]["id"], new, message_id=group_id)
            return replace(placed, before=group)
        sent_again = [answered[result.call_id]["id"] for result in results]
        recent = self._recent_answer(max(sent_again)) if sent_again else None
        if recent is None:
            raise RequestRefused(
                "No tool result is new, and there is no new user message: " + NOTHING_TO_ANSWER
            )
        before = [message for message in group if message["id"] <= max(sent_again)]
        return replace(self._answered(recent, message_id=group_id), before=before)

    def regenerated(self) -> Placed:
        """Another reply to what is answered by the message that is named."""
        target = self._named.get(self._sent.message_id or "") or self._last_known(self._recent)
        if target is None:
            return self._placed_at(self._last_of_user())
        if target.role not in ANSWERS:
            return self._placed_at(target.id)
        first, *_ = answers_up_to(**self._scope, message_id=target.id)
        if first["parent_id"] is None:
            raise RequestRefused(NOTHING_TO_ANSWER)
        return self._placed_at(first["parent_id"])

    def _placed(self, after: Named | None, drafts: list[Draft]) -> Placed:
        """After a UIMessage: all that belongs to it; or at the end."""
        if after is None:
            return Placed(self._scope["conversation_id"], drafts)
        end = after.id
        if after.role in ANSWERS and (following := answers_after(**self._scope, message=after)):
            end = following[-1]["id"]
        return self._placed_at(end, drafts)

    def _placed_at(
        self, parent_id: str | None, drafts: Iterable[Draft] = (), message_id: str | None = None
    ) -> Placed:
        conversation_id = self._scope["conversation_id"]
        return Placed(conversation_id, [*drafts], Place(0, conversation_id, parent_id), message_id)

    def _answered(self, completion_id: str, message_id: str | None = None) -> Placed:
        return Placed(self._scope["conversation_id"], message_id=message_id, completion_id=completion_id)

    def _last_known(self, sent: Iterable[SentMessage]) -> Named | None:
        known = [self._named[message.id] for message in sent if message.id in self._named]
        return known[-1] if known else None

    def _says_the_same(self, known: Named, draft: Draft) -> bool:
        user_id = self._scope["user_id"]
        stored = messages.get_message(user_id=user_id, message_id=known.id)
        if stored["content"] != draft.content:
            return False
        if not draft.parts and "parts" not in stored:
            return True
        its = sendable.list_of_messages(user_id=user_id, message_ids=[known.id]).get(known.id, [])
        return draft.file_hashes == [draft_files.hash_of_stored(file) for file in its]

    def _recent_answer(self, message_id: str) -> str | None:
        """The reply to a message that a client has asked for a moment ago, if it has come, or comes."""
        recent = finding.find_recent(user_id=self._scope["user_id"], message_id=message_id)
        return None if recent is None else str(recent.row["id"])

    def _group(self) -> list[Message]:
        """The messages of the UIMessage that was sent; where its id is not known, those at the end of the path."""
        named = self._named.get(self._sent.last.id)
        if named is not None:
            group = answers_up_to(**self._scope, message_id=named.id) + answers_after(
                **self._scope, message=named
            )
        else:
            last = messages.find_last_message(**self._scope)
            group = answers_up_to(**self._scope, message_id=last["id"]) if last else []
        if not group:
            raise RequestRefused(NOTHING_TO_ANSWER)
        return list(group)

    def _last_of_user(self) -> str:
        for message in read_path(**self._scope, before=MAX_POSITION):
            if message["role"] == "user":
                return str(message["id"])
        raise RequestRefused(NOTHING_TO_ANSWER)
