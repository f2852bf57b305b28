"""Replies of which nothing is stored: they are for the client that asked, and gone when it has them."""

from collections.abc import Sequence

import orjson

from ..database.columns import new_id, now
from ..llm.events import ToolCall
from ..llm.parts import TextPart, text_of
from ..llm.protocols import parameter_warnings
from ..llm.request import ChatMessage, ChatRequest
from ..messages.histories import Place
from ..user_llm_configs import service as configs
from .context import TOKENS_AROUND_MESSAGE, tokens_of
from .file_parts import AskTakes
from .records import StartedCompletion
from .service import CompletionRequest, Prepared, prepare_completion
from .turn_files import takes_of
from .turns import Draft, Turn, with_named_files
from .unstored_files import unstored_parts


def begin_unstored(*, turn: Turn, worker_id: str) -> StartedCompletion:
    """A completion that sends the messages as they are, after those that lead to its place. Only reads.

    Raises NotFound, KeyUnreadable, and what `turn.check` raises.
    """
    user_id, provider_id = turn.user_id, turn.provider_id
    access = configs.open_access(user_id=user_id, provider_id=provider_id)
    endpoint = access.endpoint_for(user_id=user_id, provider_id=provider_id, model=turn.model)
    turn = with_named_files(turn=turn)
    takes = takes_of(turn)
    before = _prepared(turn, turn.place) if turn.place else None
    if before is not None and turn.check is not None:
        turn.check(before)
    if before is not None:
        stored = before.context.messages
    else:
        stored = (ChatMessage("system", turn.instructions),) if turn.instructions else ()
    messages = (*stored, *(_as_sent(draft, user_id, takes) for draft in turn.drafts))
    request = ChatRequest(turn.model, messages, turn.parameters)
    return StartedCompletion(
        id=new_id(),
        user_id=user_id,
        conversation_id=new_id(),  # of none
        branch_id=None,
        message_id=new_id(),
        provider_id=provider_id,
        model=turn.model,
        worker_id=worker_id,
        created_at=now(),
        prompt_tokens=_tokens_of(turn.drafts)
        + (before.context.tokens if before else tokens_of(turn.instructions or "")),
        omitted_messages=before.context.omitted if before else 0,
        omitted_attachments=before.context.omissions if before else (),
        warnings=parameter_warnings(request, endpoint),
        settings_version=access.settings_version,
        endpoint=endpoint,
        request=request,
        parent={"id": new_id()},
        asked=turn.asked,
    )


def input_tokens(*, turn: Turn) -> int:
    """How many tokens would be sent, tools included: an estimate. Raises as `begin_unstored`."""
    tools = turn.parameters.get("tools")
    of_tools = tokens_of(orjson.dumps(tools).decode()) if tools else 0
    return of_tools + (begin_unstored(turn=turn, worker_id="").prompt_tokens or 0)


def _prepared(turn: Turn, place: Place) -> Prepared:
    """What would be sent as an answer to the message at a place."""
    request = CompletionRequest(
        user_id=turn.user_id,
        conversation_id=place.conversation_id,
        provider_id=turn.provider_id,
        model=turn.model,
        parent_id=place.message_id,
        parameters=turn.parameters,
        instructions=turn.instructions,
        is_whole=turn.is_whole,
    )
    return prepare_completion(request=request)


def _as_sent(draft: Draft, user_id: str, takes: AskTakes) -> ChatMessage:
    calls = tuple(ToolCall(**call) for call in draft.tool_calls)
    parts = unstored_parts(draft.parts, user_id=user_id, takes=takes)
    text = text_of(parts) if parts else draft.content
    is_text = all(isinstance(part, TextPart) for part in parts)
    return ChatMessage(draft.role, text, calls, draft.tool_call_id, parts=() if is_text else parts)


def _tokens_of(drafts: Sequence[Draft]) -> int:
    """Estimated."""
    return sum(
        tokens_of(draft.content)
        + sum(tokens_of(call["name"] + call["arguments"]) for call in draft.tool_calls)
        + TOKENS_AROUND_MESSAGE
        for draft in drafts
    )
