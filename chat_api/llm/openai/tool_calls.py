"""Puts the fragments of tool calls together, which servers of this protocol number and repeat as they like.

OpenAI gives each call an index, and its id and name in the first fragment only. Others give all calls the same index,
or none, or no id, repeat the name with each fragment, or send whole calls, some of them twice. Index, id, name and
whether the arguments are complete decide together: calls are neither merged nor split.
"""

from typing import Any

from ..stream_parser import PartialToolCall, StreamParser, serialize_arguments
from ..untrusted_json import as_dict, as_text, parse_json

# ids that mean none
NO_IDS = frozenset(("null", "none", "undefined"))
# so many bytes of arguments are parsed to see whether they are complete; a real reply needs far less
MAX_CHECKED_BYTES = 16 * 1024 * 1024


class ToolCallReader:
    """The calls of one reply, which become calls of its parser."""

    def __init__(self, parser: StreamParser) -> None:
        self._parser = parser
        self._by_id: dict[str, PartialToolCall] = {}
        self._checkable_bytes = MAX_CHECKED_BYTES

    def take(self, fragment: dict[str, Any], *, repeats: bool = False) -> PartialToolCall | None:
        """Take a fragment, or a whole call; the call that it is part of. None for one that has come before.

        With `repeats` it is part of a message that may repeat what came in fragments.
        """
        if (call := self.take_more(fragment)) is not None:
            return call
        function = as_dict(fragment.get("function") or fragment.get("custom")) or fragment
        id, name = _id_of(fragment.get("id")), as_text(function.get("name"))
        arguments = function.get("arguments") or function.get("input")
        if isinstance(arguments, dict):
            arguments = serialize_arguments(arguments)
        arguments = as_text(arguments)
        if repeats and self._is_known(id, name, arguments):
            return None
        if id and arguments[:1] == "{" and self._compare(self._by_id.get(id), arguments):
            return None
        index = _index_of(fragment.get("index"))
        call = None if repeats else self._continued(index, id, name, arguments)
        if call is None:
            call = self._parser.begin_call(id, name)
        elif arguments and self._check_complete(call):
            if self._compare(call, arguments):
                return None
            if call.joined() == "{}" and arguments[:1] == "{":  # stood for arguments that come now
                call.replace_arguments()
            elif _is_object(arguments):
                id, name = "" if id == call.id else id, name or call.name
                call = self._parser.begin_call(id, name)
        self._parser.call_at[index] = call
        self._parser.name_call(call, id, name)
        if call.id:
            self._by_id[call.id] = call
        self._parser.add_arguments(call, arguments)
        return call

    def take_more(self, fragment: dict[str, Any]) -> PartialToolCall | None:
        """Take what most fragments are, more of the arguments of a call; None if it may be anything else."""
        function, index = fragment.get("function"), fragment.get("index")
        if fragment.get("id") or type(function) is not dict or function.get("name") or type(index) is not int:
            return None
        arguments, call = function.get("arguments"), self._parser.call_at.get(index)
        if call is None or type(arguments) is not str or not arguments or arguments.lstrip()[:1] == "{":
            return None
        self._parser.add_arguments(call, arguments)
        return call

    def _continued(self, index: int | None, id: str, name: str, arguments: str) -> PartialToolCall | None:
        """The call that a fragment continues, None if it begins another."""
        calls = self._parser.calls
        if index is None:
            call = self._by_id.get(id) if id else (calls[-1] if calls else None)
            if call is None and id and calls and not name and not self._check_complete(calls[-1]):
                call = calls[-1]  # a new id with each fragment
        else:
            call = self._parser.call_at.get(index)
        if call is None or (id and id == call.id):
            return call
        if name and call.name and name != call.name:
            return None
        if id and call.id:  # another id, and the same name or none
            return None if name or self._check_complete(call) else call
        if name and call.name and (self._check_complete(call) if arguments else index is None):
            return None
        return call

    def _is_known(self, id: str, name: str, arguments: str) -> bool:
        """Whether a whole call has come already."""
        if id in self._by_id:
            return True
        same = (call for call in self._parser.calls if call.name == name and not (id and call.id))
        return any(self._compare(call, arguments) for call in same)

    def _compare(self, call: PartialToolCall | None, arguments: str) -> bool:
        """Whether these are all arguments of a call once more."""
        if call is None or call.size != len(arguments):
            return False
        self._checkable_bytes -= len(arguments)
        return self._checkable_bytes >= 0 and call.joined() == arguments

    def _check_complete(self, call: PartialToolCall) -> bool:
        """Whether a call's arguments are an object to its end, so that what follows belongs to another."""
        if not call.arguments or call.arguments[-1].rstrip()[-1:] != "}":
            return False
        arguments = call.joined()
        self._checkable_bytes -= len(arguments)
        return self._checkable_bytes >= 0 and _is_object(arguments)


def _is_object(text: str) -> bool:
    return text.lstrip()[:1] == "{" and isinstance(parse_json(text), dict)


def _id_of(value: object) -> str:
    text = str(value) if type(value) is int else as_text(value)
    return "" if text.lower() in NO_IDS else text


def _index_of(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
