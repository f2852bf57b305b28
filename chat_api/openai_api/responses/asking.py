"""What a request for a response comes to: a turn, and the place that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...completions.service import Prepared
from ...completions.turns import Turn
from ...conversations import service as conversations
from ...errors import NotFound
from ...idempotency.retries import Attempt
from ...messages.histories import Place
from ...messages.service import find_last_message
from ...user_llm_configs import service as user_llm_configs
from ...user_llm_configs.service import Choice
from ..compactions import open_summary
from ..errors import RequestRefused, unknown_conversation
from ..items_in import drafts_of, references_in
from ..model_names import resolve
from ..starting import fingerprint_of
from ..stored_items import find_items
from .finding import find_response
from .objects import asked_text
from .requests import ResponseRequest, read_request, unknown_previous


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what it comes to."""

    request: ResponseRequest
    turn: Turn
    fingerprint: dict[str, Any]  # what an Idempotency-Key stands for


def asked_for(user_id: str, body: dict[str, Any], attempt: Attempt | None = None) -> Asked:
    """What a body asks for. Raises RequestRefused and NotFound."""
    wanted = read_request(body)
    choices = user_llm_configs.list_choices(user_id=user_id)
    target = resolve(wanted.model, choices)
    place = _place(user_id, wanted)
    sent = body.get("input")
    referred = find_items(user_id=user_id, wanted=references_in(sent))
    drafts = drafts_of(
        [] if sent is None else sent,
        referred=referred,
        takes_files=True,
        open_compaction=lambda sealed: open_summary(user_id=user_id, sealed=sealed),
    )
    if not drafts and place is None:
        code = "missing_required_parameter" if sent is None else "invalid_value"
        raise RequestRefused("input: there is nothing to answer.", param="input", code=code)
    turn = Turn(
        user_id=user_id,
        provider_id=target.choice.provider_id,
        model=target.model,
        drafts=drafts,
        parameters=_parameters(wanted, target.choice),
        conversation_id=wanted.conversation_id,
        place=place if wanted.previous_id or not wanted.is_stored else None,
        recognises=place is None and wanted.conversation_id is None,
        attempt=attempt,
        source="responses",
        metadata=wanted.metadata,
        is_alone=wanted.conversation_id is not None,
        instructions=wanted.instructions,
        is_whole=wanted.is_whole,
        asked=asked_text(wanted, input_count=len(drafts)),
        goes_back=True,
        check=_require_room if wanted.is_whole else None,
    )
    return Asked(wanted, turn, fingerprint_of(body))


def _parameters(wanted: ResponseRequest, choice: Choice) -> Mapping[str, Any]:
    """The completion's parameters. To Claude a key would mean that the prompt is cached, which has its price."""
    if choice.api_format == "openai":
        return wanted.parameters
    return {name: value for name, value in wanted.parameters.items() if name != "cache"}


def _place(user_id: str, wanted: ResponseRequest) -> Place | None:
    """The message that the input follows, where the request names one. Raises RequestRefused."""
    if wanted.conversation_id is not None:
        scope = {"user_id": user_id, "conversation_id": wanted.conversation_id}
        last = find_last_message(**scope)
        if last is None and not conversations.has_conversation(**scope):
            raise unknown_conversation()
        return None if last is None else Place(0, wanted.conversation_id, last["id"])
    if wanted.previous_id is None:
        return None
    try:
        run, stored = find_response(user_id, wanted.previous_id)
    except NotFound:
        raise unknown_previous() from None
    if run is not None or stored is None or stored.in_progress:
        raise RequestRefused(
            "previous_response_id: this response is still in progress.",
            param="previous_response_id",
            code="response_in_progress",
        )
    row, message = stored.row, stored.message
    return Place(0, str(row["conversation_id"]), str(message["id"] if message else row["parent_id"]))


def _require_room(prepared: Prepared) -> None:
    """Raise RequestRefused where what would be sent is longer than the window that somebody has set."""
    window = prepared.access.context_window
    if prepared.context.omitted or (window is not None and prepared.context.tokens > window):
        raise RequestRefused(
            "input: the conversation is longer than the model's context window. "
            'With "truncation": "auto" the oldest turns are left out.',
            param="input",
            code="context_length_exceeded",
        )
