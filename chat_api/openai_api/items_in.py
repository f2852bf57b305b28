"""Items that a client sends, as messages of ours: one or more of them make a message. Pure functions."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ..completions.turns import Draft
from ..llm.stream_parser import MAX_TOOL_CALLS
from ..messages.models import ROLES
from ..messages.parts import MAX_CONTENT_BYTES
from . import ids
from .content_parts import content_of
from .errors import RequestRefused

MAX_ID = 255
MAX_REFERRED_BYTES = 16 * 1024 * 1024  # that references add to a request, each with what it names
MESSAGE_ROLES = tuple(role for role in ROLES if role != "tool")
NO_CONTENT = ("reasoning",)  # accepted, and neither sent on nor stored
# the output of a function that has given nothing but files
FILES_FOLLOW = "See the files in the next message."

OpenCompaction = Callable[[str], str | None]


def references_in(items: Any, where: str = "input") -> dict[str, ids.ItemId]:
    """The items that others refer to, by the ids that are named. Raises RequestRefused for what can't be an id."""
    found: dict[str, ids.ItemId] = {}
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if _kind_of(item) == "item_reference":
            named = item.get("id")
            wanted = ids.read_item(named) if isinstance(named, str) else None
            if wanted is None:
                raise _unknown_item(f"{where}[{index}]")
            found[named] = wanted
    return found


def drafts_of(
    items: Any,
    where: str = "input",
    *,
    referred: Mapping[str, Mapping[str, Any]] | None = None,
    open_compaction: OpenCompaction | None = None,
    most: int | None = None,
    takes_files: bool = False,
) -> list[Draft]:
    """The messages of a text, which is the user's, or of a list of items, at most so many.

    `referred` are the items that `references_in` them. `open_compaction` gives the summary that a compaction holds,
    None for one that is not this user's. With `takes_files` users' messages may have files, and outputs of functions,
    which `turn_files` has to store then. Raises RequestRefused, which names the place as `param`.
    """
    if isinstance(items, str):
        return [Draft("user", _bounded(items, where))]
    if not isinstance(items, list) or (most is not None and len(items) > most):
        bound = "" if most is None else f" of at most {most} items"
        raise RequestRefused(f"{where} must be a list{bound}.", param=where)
    reader = _ItemReader(referred or {}, open_compaction, takes_files)
    for index, item in enumerate(items):
        reader.add(item, f"{where}[{index}]")
    reader.end_outputs()
    return reader.drafts


class _ItemReader:
    """The messages of the items that have been read."""

    def __init__(
        self,
        referred: Mapping[str, Mapping[str, Any]],
        open_compaction: OpenCompaction | None,
        takes_files: bool,
    ) -> None:
        self.drafts: list[Draft] = []
        self._files_of_outputs: list[Draft] = []  # of the outputs that have been read last
        self._referred, self._open_compaction = referred, open_compaction
        self._takes_files = takes_files
        self._referred_bytes = 0
        self._last_id: ids.ItemId | None = None  # of the item that the last message was made of

    def add(self, item: Any, where: str) -> None:
        kind = _kind_of(item)
        if kind not in ("function_call_output", "item_reference", *NO_CONTENT):
            self.end_outputs()
        if kind == "item_reference":
            found = self._referred.get(item.get("id"))
            if found is None:
                raise _unknown_item(where)
            self._count_referred(found, where)
            self.add(found, where)
        elif kind == "message":
            self._add_message(_message(item, where, self._takes_files), _id_of(item))
        elif kind == "function_call":
            self._add_call(_call(item, where), where)
        elif kind == "function_call_output":
            self._add_output(item, where)
        elif kind == "compaction":
            self.drafts.append(Draft("system", self._summary(item, where)))
        elif kind not in NO_CONTENT:
            raise RequestRefused(f"{where}.type is not supported.", param=f"{where}.type")

    def _add_message(self, draft: Draft, id_: ids.ItemId | None) -> None:
        """Texts of one reply of ours, between which the model thought, are one message again."""
        last = self.drafts[-1] if self.drafts else None
        if last is not None and last.role == draft.role == "assistant" and _follows(id_, self._last_id):
            content = _bounded(last.content + draft.content, "input")
            self.drafts[-1] = Draft(last.role, content, last.tool_calls)
        else:
            self.drafts.append(draft)
        self._last_id = id_

    def _count_referred(self, item: Mapping[str, Any], where: str) -> None:
        """A short reference may name a long text, and a request may name it often."""
        self._referred_bytes += len(orjson.dumps(item))
        if self._referred_bytes > MAX_REFERRED_BYTES:
            raise RequestRefused(
                f"{where}: the items that are referred to have more than {MAX_REFERRED_BYTES} bytes.",
                param=where,
            )

    def _add_call(self, call: dict[str, str], where: str) -> None:
        """Calls belong to the assistant's message before them; else they are one of their own."""
        last = self.drafts[-1] if self.drafts else None
        if last is None or last.role != "assistant":
            self.drafts.append(Draft("assistant", "", [call]))
            return
        if len(last.tool_calls) >= MAX_TOOL_CALLS:
            raise RequestRefused(f"{where}: a message has at most {MAX_TOOL_CALLS} calls.", param=where)
        self.drafts[-1] = Draft(last.role, last.content, [*last.tool_calls, call])

    def _add_output(self, item: Mapping[str, Any], where: str) -> None:
        """What a function has given. Chat completions have texts alone there, and no provider takes more from all
        models; so files are a message of the user, after the outputs of all calls."""
        content = content_of(item.get("output"), f"{where}.output", takes_files=self._takes_files)
        files = tuple(part for part in content.parts if not isinstance(part, str))
        text = content.text or (FILES_FOLLOW if files else "")
        self.drafts.append(Draft("tool", text, tool_call_id=_short(item, "call_id", where)))
        if files:
            self._files_of_outputs.append(Draft("user", "", parts=files))

    def end_outputs(self) -> None:
        """Nothing more comes that the model has to get beside the outputs before."""
        self.drafts += self._files_of_outputs
        self._files_of_outputs.clear()

    def _summary(self, item: Mapping[str, Any], where: str) -> str:
        sealed = item.get("encrypted_content")
        summary = None
        if self._open_compaction is not None and isinstance(sealed, str):
            summary = self._open_compaction(sealed)
        if summary is None:
            at = f"{where}.encrypted_content"
            raise RequestRefused(f"{at} is not a compaction of yours.", param=at)
        return summary


def _kind_of(item: Any) -> str | None:
    """The type of an item; a message may leave it out."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind is None and "role" in item:
        return "message"
    return kind if isinstance(kind, str) else None


def _id_of(item: Mapping[str, Any]) -> ids.ItemId | None:
    """The id of an item, where it is one of ours."""
    return ids.read_item(item["id"]) if isinstance(item.get("id"), str) else None


def _follows(id_: ids.ItemId | None, last: ids.ItemId | None) -> bool:
    """Whether an item comes later in the same message of ours."""
    if id_ is None or last is None or id_.message_id != last.message_id:
        return False
    return (id_.place or 0) > (last.place or 0)


def _message(item: Mapping[str, Any], where: str, takes_files: bool) -> Draft:
    role = item.get("role")
    if role not in MESSAGE_ROLES:
        at = f"{where}.role"
        raise RequestRefused(f"{at} must be one of {', '.join(MESSAGE_ROLES)}.", param=at)
    content = content_of(item.get("content"), f"{where}.content", takes_files=takes_files and role == "user")
    return Draft(role, content.text, parts=content.parts)


def _call(item: Mapping[str, Any], where: str) -> dict[str, str]:
    arguments = item.get("arguments")
    if not isinstance(arguments, str):
        raise RequestRefused(f"{where}.arguments must be a string.", param=f"{where}.arguments")
    return {
        "id": _short(item, "call_id", where),
        "name": _short(item, "name", where),
        "arguments": _bounded(arguments, f"{where}.arguments"),
    }


def _short(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID:
        at = f"{where}.{name}"
        raise RequestRefused(f"{at} must be a string of 1 to {MAX_ID} characters.", param=at)
    return value


def _bounded(text: str, where: str) -> str:
    if len(text.encode()) > MAX_CONTENT_BYTES:
        raise RequestRefused(f"{where} is longer than {MAX_CONTENT_BYTES} bytes.", param=where)
    return text


def _unknown_item(where: str) -> RequestRefused:
    return RequestRefused(f"{where}: there is no such item.", param=where, code="item_not_found", status=404)
