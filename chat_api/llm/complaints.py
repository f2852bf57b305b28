"""What a server's refusal says about the options of its next requests: rules over its words, each of them pure.

Servers of one protocol refuse fields that others require, and say so in many ways. A complaint that is understood
changes an option, and the request is made again. What may be remembered of it is the change's `scope`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .events import Corrected
from .file_complaints import changes_for_files, has_in_newest
from .history_complaints import changes_for_fields, changes_for_order, changes_for_signature
from .options import RequestOptions, merged_changes
from .request import ChatRequest

STATUSES = (400, 403, 422)
MAX_CORRECTIONS = 6  # of one request; each changes another option

# what users ask for that a reply can do without; what is not here is refused in the provider's words
DISPENSABLE = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
               "seed", "logit_bias", "verbosity", "reasoning_effort", "thinking_budget_tokens", "parallel_tool_calls",
               "service_tier", "user", "safety_identifier", "metadata", "store", "cache",
               "chat_template_kwargs")  # fmt: skip
# the words of the body for them, where they are others
_FIELDS = {
    "cache": ("prompt_cache_key", "cache_control"),
    "thinking_budget_tokens": ("thinking_budget", "thinking_config"),
}
_SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty")
# with one of these a complaint about another field may be due to them
_STEERING = ("reasoning_effort", "thinking_budget_tokens", "extra")
_LIMITS = ("max_tokens", "max_completion_tokens")

_REFUSED = re.compile(
    r"unsupported|not (be )?(support|permitt|allow|accept|availab)|unrecogni[sz]ed|unknown|unexpected|extra|deprecated"
    r"|cannot find|does(n't| not) (support|exist)|no longer"
)
_ABOUT_VALUE = re.compile(
    r"supported values|valid values|must be one of|should be|'minimal'|'xhigh'|'none'|'max'"
)
_NOT_STREAMED = re.compile(
    r"verified to stream|'stream' does not support|\bstream(ing)?\b['\"`]? (is|must be|mode is)?\s*"
    r"(not (support|availab|allow|permitt)|unsupported|false|disabled)"
    r"|(does(n't| not)|can(not|'t)) (support )?stream|unsupported.{0,40}\bstream\b['\"`]?(?!_)"
)
_UNNAMED = re.compile(
    r"param(eter)?s? (is |are )?(incorrect|invalid|error)|(invalid|incorrect|illegal) param(eter)?s?\b"
)
_LARGEST = re.compile(
    r"max_(?:completion_)?tokens\W{1,3}\d{1,9} > (\d{1,9})"
    r"|valid range of max_(?:completion_)?tokens is \[\d{1,9}, ?(\d{1,9})\]"
    r"|max_(?:completion_)?tokens\b[^.]{0,80}?"
    r"(?:at most|less than or equal to|<=|maximum(?: value)?(?: is| of)?) (\d{1,9})"
)
_WINDOW = re.compile(r"context limit: (\d{1,9}) \+ (\d{1,9}) > (\d{1,9})")


class Scope(Enum):
    """Where a change holds."""

    SERVER = "server"  # for the model, whoever asks
    CALLER = "caller"  # for the model, with this caller's key and ways
    REQUEST = "request"  # for this request only


@dataclass(frozen=True, slots=True)
class Correction:
    """Changes of the options, and where they hold. `without` has only what this complaint is about."""

    changes: Mapping[str, Any]
    scope: Scope


@dataclass(frozen=True, slots=True)
class _Refused:
    """A request that was refused, and how."""

    words: str  # in lower case
    body: Mapping[str, Any]
    request: ChatRequest
    options: RequestOptions

    @property
    def has_own_limit(self) -> bool:
        """Whether the limit of the reply comes from the caller."""
        return any(self.request.parameters.get(name) is not None for name in _LIMITS)

    def refuses(self, name: str) -> bool:
        """Whether the complaint is that this field is there."""
        return bool(re.search(rf"\b{name}\b", self.words)) and bool(_REFUSED.search(self.words))


def correction_for(
    complaint: str, body: Mapping[str, Any], request: ChatRequest, options: RequestOptions
) -> Correction | None:
    """The change after which the request may be accepted, or None if the complaint is about something else."""
    refused = _Refused(complaint.lower(), body, request, options)
    correction = next(filter(None, (rule(refused) for rule in _RULES)), None)
    if correction is not None and request.parameters.get("extra"):  # nobody knows what that leads to
        return Correction(correction.changes, Scope.REQUEST)
    return correction


def _limit_field(refused: _Refused) -> Correction | None:
    if "max_tokens" in refused.body and "max_completion_tokens" in refused.words:
        return Correction({"limit_field": "max_completion_tokens"}, Scope.SERVER)
    if "max_completion_tokens" in refused.body and refused.refuses("max_completion_tokens"):
        return Correction({"limit_field": "max_tokens"}, Scope.SERVER)
    return None


def _stream_options(refused: _Refused) -> Correction | None:
    if "stream_options" in refused.body and re.search("stream_options|include_usage", refused.words):
        return Correction({"stream_options": False}, Scope.SERVER)
    return None


def _stream(refused: _Refused) -> Correction | None:
    """Who may stream a model depends on the organization that the key belongs to."""
    if refused.body.get("stream") and _NOT_STREAMED.search(refused.words):
        return Correction({"stream": False}, Scope.CALLER)
    return None


def _developer_role(refused: _Refused) -> Correction | None:
    messages = refused.body.get("messages", ())
    if "role" in refused.words and any(message.get("role") == "developer" for message in messages):
        return Correction({"developer_role": False}, Scope.SERVER)
    return None


def _history(refused: _Refused) -> Correction | None:
    """What the server wants of the messages."""
    words, options = refused.words, refused.options
    if changes := changes_for_order(words, options):
        return Correction(changes, Scope.SERVER)
    if changes := changes_for_signature(words, options):
        return Correction(changes, Scope.REQUEST)
    # an import may have brought the fields
    if _REFUSED.search(words) and (changes := changes_for_fields(words, options)):
        return Correction(changes, Scope.CALLER)
    return None


def _files(refused: _Refused) -> Correction | None:
    """What the model does not take is left out of older messages. The newest one is not answered without it.

    An error may repeat words of the request, such as a file's name, so it must not change other users' requests.
    """
    changes = changes_for_files(refused.words, refused.request)
    if not changes or "pdfs" in changes or has_in_newest(refused.request, changes):
        return None
    return Correction(changes, Scope.CALLER)


def _thinking(refused: _Refused) -> Correction | None:
    kind = (refused.body.get("thinking") or {}).get("type")
    if kind == "enabled" and "adaptive" in refused.words:
        return Correction({"thinking": "adaptive"}, Scope.SERVER)
    if kind == "adaptive" and "adaptive" in refused.words and _REFUSED.search(refused.words):
        return Correction({"thinking": "budget"}, Scope.SERVER)
    return None


def _max_output(refused: _Refused) -> Correction | None:
    """A limit that we set; one that the caller set is theirs to change."""
    if refused.has_own_limit or not any(name in refused.body for name in _LIMITS):
        return None
    if found := _WINDOW.search(refused.words):
        room = int(found[3]) - int(found[1])
        return Correction({"max_output": room}, Scope.REQUEST) if room > 0 else None
    if found := _LARGEST.search(refused.words):
        largest = int(next(filter(None, found.groups())))
        return Correction({"max_output": largest}, Scope.SERVER) if largest else None
    return None


def _both_of_sampling(refused: _Refused) -> Correction | None:
    given = refused.request.parameters
    if "both" in refused.words and all(
        name in given and name in refused.words for name in ("temperature", "top_p")
    ):
        return Correction({"without": ("top_p",)}, Scope.REQUEST)
    return None


def _dispensable(refused: _Refused) -> Correction | None:
    names = [
        name for name in DISPENSABLE if name in refused.request.parameters and _is_refused(refused, name)
    ]
    if not names:
        return None
    is_steered = any(name in refused.request.parameters for name in _STEERING if name not in names)
    scope = Scope.REQUEST if is_steered else Scope.CALLER
    return Correction({"without": tuple(names)}, scope)


def _is_refused(refused: _Refused, name: str) -> bool:
    """Whether the server refuses a parameter, not one of its values: another value is for the caller to choose."""
    if name not in _SAMPLING and _ABOUT_VALUE.search(refused.words):
        return False
    return any(refused.refuses(field) for field in (name, *_FIELDS.get(name, ())))


def _unnamed(refused: _Refused) -> Correction | None:
    """A complaint about parameters that names none: the field that we add is the likeliest."""
    if "stream_options" in refused.body and _UNNAMED.search(refused.words):
        return Correction({"stream_options": False}, Scope.CALLER)
    return None


_RULES: tuple[Callable[[_Refused], Correction | None], ...] = (
    _limit_field,
    _stream_options,
    _stream,
    _developer_role,
    _files,
    _history,
    _thinking,
    _max_output,
    _both_of_sampling,
    _dispensable,
    _unnamed,
)


class Corrections:
    """The corrections of one request, each of another option."""

    def __init__(self) -> None:
        self._made: list[Correction] = []
        self._complaints: set[str] = set()

    def add(
        self, complaint: str, body: Mapping[str, Any], request: ChatRequest, options: RequestOptions
    ) -> RequestOptions | None:
        """The options to try next, or None where nothing is left to try.

        A complaint that is repeated word for word was not about what has been changed since.
        """
        if complaint in self._complaints or len(self._made) == MAX_CORRECTIONS:
            return None
        self._complaints.add(complaint)
        correction = correction_for(complaint, body, request, options)
        changed = options if correction is None else options.merged(correction.changes)
        if correction is None or changed == options or self._has_changed(correction):
            return None
        self._made.append(correction)
        return changed

    def _has_changed(self, correction: Correction) -> bool:
        names = set(correction.changes) - {"without"}
        return any(names & set(made.changes) for made in self._made)

    @staticmethod
    def lesson(complaint: str, request: ChatRequest) -> Corrected | None:
        """What a refusal that ends a request says about later ones; None where that is nothing."""
        changes = changes_for_files(complaint.lower(), request)
        return Corrected({}, changes, ()) if changes and not request.parameters.get("extra") else None

    def add_version(self, options: RequestOptions) -> RequestOptions:
        """Note that the server knows its paths with a version only; the options to try next."""
        self._made.append(Correction({"version_in_path": True}, Scope.SERVER))
        return options

    def event(self, warnings: tuple[str, ...]) -> Corrected | None:
        """What was corrected, with the warnings about what is sent now; None if nothing was."""
        if not self._made:
            return None
        return Corrected(self._changes(Scope.SERVER), self._changes(Scope.CALLER), warnings)

    def _changes(self, scope: Scope) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for made in self._made:
            if made.scope is scope:
                changes = merged_changes(changes, made.changes)
        return changes
