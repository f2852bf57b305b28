"""Histories that a client has changed, in a conversation that it names: where they belong there.

A system prompt with the time in it, or replies that are trimmed, make another history of one that is stored. Appended
to that, all of it would be there twice.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ..attachments import sendable
from ..messages.answers import read_path
from ..messages.chain import digest_of
from ..messages.histories import Place, find_longest
from ..messages.parts import is_place_only
from ..web.pagination import MAX_POSITION
from .draft_files import hash_of_stored

MAX_COMPARED = 1000  # messages at the end of the active path


def find_changed(
    *, user_id: str, conversation_id: str, digests: Sequence[str], chain_hashes: Sequence[str], prompts: int
) -> Place | None:
    """Where messages of which none is recognised belong, an assistant's among them; None: after all that is there.

    The first `prompts` of them are system prompts. Where the others begin with the end of the active path, they go on
    there; where their beginning is stored, they are a branch after that. Others of which some are stored are a branch
    of their own, so that the model gets what was sent, and no more.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    path = [
        message
        for message in islice(read_path(**scope, before=MAX_POSITION), MAX_COMPARED)
        if not is_place_only(message)
    ][::-1]
    stored = _digests_of(user_id, path)
    known, said = set(stored), digests[prompts:]
    if known.issuperset(digests[:prompts]) and (length := _overlap(stored, said)):
        return Place(prompts + length, conversation_id, str(path[-1]["id"]))
    beginning = find_longest(**scope, chain_hashes=chain_hashes, shortest=prompts + 1)
    if beginning is not None:
        return beginning
    if len(path) < MAX_COMPARED and (length := _equal(stored, digests)) > prompts:
        return Place(length, conversation_id, str(path[length - 1]["id"]))
    return Place(0, conversation_id, None) if known.intersection(said[:-1]) else None


def _overlap(stored: Sequence[str], said: Sequence[str]) -> int:
    """How many of the messages that were said are the last ones that are stored."""
    longest = min(len(stored), len(said))
    return next((count for count in range(longest, 0, -1) if stored[-count:] == said[:count]), 0)


def _equal(stored: Sequence[str], said: Sequence[str]) -> int:
    """How many messages both begin with; items that were appended are found by nothing else."""
    pairs = enumerate(zip(stored, said, strict=False))
    return next((count for count, (one, other) in pairs if one != other), min(len(stored), len(said)))


def _digests_of(user_id: str, path: Sequence[dict[str, Any]]) -> list[str]:
    with_files = [str(message["id"]) for message in path if message["role"] == "user"]
    files = sendable.list_of_messages(user_id=user_id, message_ids=with_files)
    return [
        digest_of(
            role=message["role"],
            content=message["content"],
            tool_calls=message.get("tool_calls") or (),
            tool_call_id=message.get("tool_call_id"),
            file_hashes=map(hash_of_stored, files.get(str(message["id"]), ())),
        )
        for message in path
    ]
