"""Which files of a conversation are sent with its messages: as many of the newest as there is room for.

They are decided from the newest message back, and within a message from its last file to its first. Where one has no
room, none that is older is sent. What is not sent leaves a note for the model, and is listed in the answer. So what is
sent of a message is the same each time, until newer files push its own out.
"""

from collections.abc import Sequence
from typing import Any

from ..attachments import sendable
from ..attachments.references import is_link
from ..attachments.sendable import Sendable
from ..errors import ApiError, AttachmentRefused, AttachmentTooLarge, AttachmentUnreadable
from ..llm.parts import FILES, Part, TextPart, note_of, text_of
from ..messages.parts import ATTACHMENT
from .file_parts import AskTakes, FileToSend, Limits, file_to_send
from .omissions import LOST, NO_CONTENT, NO_ROOM, REASONS, TOO_LARGE, Omission, Unsendable
from .preparing import Preparation
from .token_estimates import tokens_of

MAX_FILES = 100  # of one completion

Message = dict[str, Any]


class FilesOfMessages:
    """Puts the files of messages into them, newest message first."""

    def __init__(self, *, user_id: str, takes: AskTakes, limits: Limits) -> None:
        self._user_id, self._limits = user_id, limits
        self._takes, self._preparation = takes, Preparation(user_id)
        self._files, self._bytes, self._tokens = MAX_FILES, limits.max_bytes, limits.max_tokens
        self._has_newest = False

    def find(self, messages: Sequence[Message]) -> None:
        """Note which attachments the user's messages among these have; one statement where any has some."""
        with_some = [
            message
            for message in messages
            if message.pop("attachment_count", 0) and message["role"] == "user"
        ]
        if not with_some:
            return
        found = sendable.list_of_messages(
            user_id=self._user_id, message_ids=[str(each["id"]) for each in with_some]
        )
        for message in with_some:
            message["attachments"] = found.get(str(message["id"]), [])

    def add_to(self, message: Message, *, room: int) -> None:
        """Put the files of a message into it, as far as they have room; so many tokens remain of the whole request.

        Its `content` then has all texts, `parts_to_send` the whole where there is more than text, `file_tokens` what
        that takes besides, and `omissions` what is not sent. Raises AttachmentRefused and its likes where the newest
        message of the user has what can't be sent.
        """
        if message["role"] != "user":
            return
        is_newest, self._has_newest = not self._has_newest, True
        attachments = _with_links(message, message.pop("attachments", []))
        if not attachments:
            return
        made: dict[str, Part | None] = {}
        message["omissions"] = omissions = []
        tokens, room = 0, room - tokens_of(message["content"])
        alone = min(self._limits.max_tokens, room)
        for attachment in reversed(attachments):
            try:
                file = self._file(attachment, room - tokens, alone if is_newest else None)
            except Unsendable as error:
                if is_newest and error.reason not in (NO_CONTENT, NO_ROOM):
                    raise refusal_of(attachment, error.reason) from None
                omissions.append(Omission(attachment.id, error.reason))
                made[attachment.id] = _note(attachment, error.reason)
                continue
            made[attachment.id] = file.part
            tokens += file.tokens
            if isinstance(file.part, FILES):
                message["file_tokens"] = message.get("file_tokens", 0) + file.tokens
        parts = _in_order(message, attachments, made)
        message["content"] = text_of(parts)
        message["parts_to_send"] = () if all(isinstance(part, TextPart) for part in parts) else parts

    def _file(self, attachment: Sendable, room: int, alone: int | None) -> FileToSend:
        """The file as a part, if there is room for it. Raises Unsendable."""
        if attachment.name is None and not attachment.is_link:
            raise Unsendable(NO_CONTENT)
        if self._files <= 0 or (alone is None and room <= 0):
            raise Unsendable(NO_ROOM)
        file = file_to_send(
            attachment,
            user_id=self._user_id,
            takes=self._takes,
            limits=self._limits,
            preparation=self._preparation,
        )
        if alone is not None and file.tokens > alone:
            raise Unsendable(TOO_LARGE)
        if file.size_bytes > self._bytes or file.tokens > min(self._tokens, room):
            self._files = 0  # nor is there for any that is older
            raise Unsendable(NO_ROOM)
        self._files -= 1
        self._bytes -= file.size_bytes
        self._tokens -= file.tokens
        return file


def _with_links(message: Message, attachments: list[Sendable]) -> list[Sendable]:
    """The attachments, of which labels are links where the content names them: only what was sent as one does."""
    if all(each.name is not None for each in attachments):
        return attachments
    named = {part.get("attachment_id") for part in message.get("parts") or ()}
    return [
        each._replace(is_link=True)
        if each.name is None and each.id in named and is_link(each.file_name)
        else each
        for each in attachments
    ]


def _in_order(
    message: Message, attachments: Sequence[Sendable], made: dict[str, Part | None]
) -> tuple[Part, ...]:
    """The parts of a message as its content has them, and after them the attachments that it does not name."""
    parts: list[Part | None] = []
    for part in message.get("parts") or [{"type": "text", "text": message["content"]}]:
        # one that was deleted since is nothing
        parts.append(
            made.pop(part["attachment_id"], None) if part["type"] == ATTACHMENT else TextPart(part["text"])
        )
    parts += [made[attachment.id] for attachment in attachments if attachment.id in made]
    return tuple(part for part in parts if part is not None and part != TextPart(""))


def _note(attachment: Sendable, reason: str) -> TextPart | None:
    """What the model is told; of a client's own path, nothing."""
    if reason == NO_CONTENT:
        return None
    return note_of(attachment.file_name, attachment.file_type, REASONS[reason])


def refusal_of(attachment: Sendable, reason: str) -> ApiError:
    """The error for an attachment of the message that is answered."""
    kinds: dict[str, type[AttachmentRefused | AttachmentUnreadable]] = {
        TOO_LARGE: AttachmentTooLarge,
        LOST: AttachmentUnreadable,
    }
    detail = (
        f'The attachment "{attachment.file_name}" ({attachment.file_type}) can\'t be sent: {REASONS[reason]}'
    )
    return kinds.get(reason, AttachmentRefused)(detail, attachment_id=attachment.id, reason=reason)
