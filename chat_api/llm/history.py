"""Turns stored messages into a history that the provider takes, whatever was stored.

Conversations are posted, imported, cut off and switched from one provider to another, and servers refuse a request for
good if its history breaks one of their rules. `acceptable` is a pure function: what it returns is what is sent, and
what a preview shows. What it guarantees is listed in docs/providers.md, and held by tests/llm/test_history.py.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .call_ids import fit_call_ids
from .claude_blocks import SERVER_CALLS, blocks_of
from .events import ToolCall
from .options import RequestOptions
from .parts import (
    AUDIO,
    FILES,
    IMAGE,
    Kind,
    TextPart,
    joined_parts,
    text_of,
    with_notes,
    without_documents,
)
from .request import ChatMessage, ChatRequest, Endpoint
from .tool_names import fit_names, renamed_parameters
from .untrusted_json import as_dict, as_list, is_serializable, parse_json

# what stands where something is missing
NOT_CARRIED_OUT = "This tool call was not carried out."
NO_REPLY = "(No reply.)"
START = "Begin."
CONTINUE = "Continue."
STRAY_RESULT = "Result of a tool call:\n"
NO_OUTPUT = "(no output)"
# Gemini takes this for the signature of a call that another model made
SKIP_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
# DeepSeek refuses an empty text for reasoning that is not known
UNKNOWN_REASONING = " "

KINDS: Mapping[Kind, str] = {IMAGE: "pictures", AUDIO: "recordings"}  # that may be left out, in warnings
_SYSTEM = ("system", "developer")
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)*v?(\d+)(?:[.-](\d{1,2})(?!\d))?")
_NO_PREFILL_SINCE = (4, 6)
_MISTRAL = re.compile("mistral|mixtral|ministral|magistral|codestral|devstral|pixtral")
# parameters that make Claude think, and then it continues no message
_THINKING = ("reasoning_effort", "thinking_budget_tokens")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a server wants of a history."""

    is_anthropic: bool
    alternation: bool
    developer_role: bool
    blank_text: bool
    user_after_tool: bool
    prefill: bool
    call_ids: str
    state: bool
    thought_signatures: bool
    reasoning_content: bool
    refused_kinds: tuple[Kind, ...] = ()  # of files
    documents: bool = False  # texts of files are blocks of their own


def acceptable(request: ChatRequest, endpoint: Endpoint) -> ChatRequest:
    """The request as the endpoint takes it."""
    rules = rules_of(endpoint.api_format, endpoint.options, request.model, request.parameters)
    names = _fitted_names(request)
    parameters = request.parameters
    if rules.is_anthropic and not _has_tools(parameters, endpoint):
        parameters = {**parameters, **_tools_of(request.messages)}
    messages = provider_history(request.messages, rules, names)
    return replace(request, messages=messages, parameters=renamed_parameters(parameters, names))


def left_out_warnings(request: ChatRequest, endpoint: Endpoint) -> tuple[str, ...]:
    """What of the request's files the endpoint does not get."""
    rules = rules_of(endpoint.api_format, endpoint.options, request.model, request.parameters)
    sent = {part.kind for message in request.messages for part in message.parts if isinstance(part, FILES)}
    return tuple(
        f"attachments: The model takes no {KINDS[kind]}; a line stands in place of each."
        for kind in rules.refused_kinds
        if kind in sent
    )


def original_names(request: ChatRequest) -> dict[str, str]:
    """The names of tools that are sent instead of others, and these: what a call in the reply means."""
    return {fits: name for name, fits in _fitted_names(request).items()}


def _fitted_names(request: ChatRequest) -> dict[str, str]:
    return fit_names(_names(request.parameters, request.messages))


def rules_of(api_format: str, options: RequestOptions, model: str, parameters: Mapping[str, Any]) -> Rules:
    """The rules of a server, of which some go with the model, whoever serves it."""
    is_anthropic = api_format == "anthropic"
    is_mistral = not is_anthropic and _MISTRAL.search(model.lower()) is not None
    return Rules(
        is_anthropic=is_anthropic,
        alternation=options.alternation or is_anthropic,
        developer_role=options.developer_role and not is_anthropic,
        blank_text=options.blank_text and not is_anthropic,
        user_after_tool=(options.user_after_tool and not is_mistral) or is_anthropic,
        prefill=options.prefill and not is_mistral and _is_continued(is_anthropic, model, parameters),
        call_ids="anthropic" if is_anthropic else "mistral" if is_mistral else options.call_ids,
        state=options.state,
        thought_signatures=options.thought_signatures and not is_anthropic,
        reasoning_content=options.reasoning_content and not is_anthropic,
        refused_kinds=_refused_kinds(options, is_anthropic),
        documents=is_anthropic and options.pdfs,
    )


def _refused_kinds(options: RequestOptions, is_anthropic: bool) -> tuple[Kind, ...]:
    images: tuple[Kind, ...] = () if options.images else (IMAGE,)
    return images if options.audio and not is_anthropic else (*images, AUDIO)


def provider_history(
    messages: Sequence[ChatMessage], rules: Rules, names: Mapping[str, str]
) -> tuple[ChatMessage, ...]:
    """The messages under the rules of a server. `names` are those of tools that it would refuse, and what is sent."""
    answered = _with_results([_fitted(message, rules) for message in messages])
    said = [message for message in answered if _says_something(message, rules)]
    system = [message for message in said if message.role in _SYSTEM]
    if rules.alternation:
        said = _joined_system(system) + _alternating(
            [message for message in said if message.role not in _SYSTEM], rules
        )
    elif len(system) == len(said):
        said.append(ChatMessage("user", START))
    if said[-1].role == "assistant" and not rules.prefill and not _awaits_server(said[-1], rules):
        said.append(ChatMessage("user", CONTINUE))
    return tuple(_finished(said, rules, names))


# -- the rules ------------------------------------------------------------------------------------------------


def _is_continued(is_anthropic: bool, model: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the model continues an assistant's message; Anthropic's later ones refuse that."""
    found = _CLAUDE.search(model.lower())
    if found is None:
        return not is_anthropic
    if any(parameters.get(name) not in (None, "none", 0) for name in _THINKING):
        return False
    return (int(found[1]), int(found[2] or 0)) < _NO_PREFILL_SINCE


def _has_tools(parameters: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Whether the request has tools, which may also be the server's own."""
    places = (parameters, as_dict(parameters.get("extra")), endpoint.extra_body)
    return any(place.get("tools") for place in places)


def _tools_of(messages: Sequence[ChatMessage]) -> dict[str, Any]:
    """Parameters with the tools that were called, none of which may be called now: Anthropic's servers refuse calls in
    a history of a request without tools."""
    names = dict.fromkeys(call.name for message in messages for call in message.tool_calls)
    if not names:
        return {}
    functions = [{"name": name, "parameters": {"type": "object"}} for name in names]
    return {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": "none",
    }


def _names(parameters: Mapping[str, Any], messages: Sequence[ChatMessage]) -> Iterator[str]:
    for tool in as_list(parameters.get("tools")):
        if isinstance(name := as_dict(as_dict(tool).get("function")).get("name"), str):
            yield name
    for message in messages:
        for call in message.tool_calls:
            yield call.name


# -- messages one by one --------------------------------------------------------------------------------------


def _fitted(message: ChatMessage, rules: Rules) -> ChatMessage:
    """A message with a role and a content that the server knows."""
    if message.role == "developer" and not rules.developer_role:
        return replace(message, role="system")
    if message.parts:
        return _with_fitted_parts(message, rules)
    if message.tool_calls and not rules.blank_text and not message.content.strip():
        return replace(message, content="")
    return message


def _with_fitted_parts(message: ChatMessage, rules: Rules) -> ChatMessage:
    """A message with parts that the server takes: a text, where there is nothing else."""
    parts = with_notes(message.parts, rules.refused_kinds)
    if not rules.documents:
        parts = without_documents(parts)
    is_text = all(isinstance(part, TextPart) for part in parts)
    return replace(message, content=text_of(parts), parts=() if is_text else parts)


def _says_something(message: ChatMessage, rules: Rules) -> bool:
    if message.role == "tool" or message.tool_calls or message.parts:
        return True
    return bool(message.content if rules.blank_text else message.content.strip())


def _awaits_server(message: ChatMessage, rules: Rules) -> bool:
    """Whether Anthropic's server paused in the middle of a tool of its own, and goes on with this message."""
    blocks = blocks_of(message) if rules.is_anthropic and rules.state else []
    return bool(blocks) and blocks[-1]["type"] in SERVER_CALLS


def json_object(arguments: str) -> str:
    """A call's arguments as the text of a JSON object; the model may have written something else, or not all of it."""
    value = parse_json(arguments) if arguments.strip() else {}
    if not (isinstance(value, dict) and is_serializable(value)):
        value, arguments = {"arguments": arguments}, ""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:  # lenient readers take more than JSON is
        return orjson.dumps(value).decode()
    return arguments


# -- calls and their results ----------------------------------------------------------------------------------


def _with_results(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """The messages with each call answered right after it, and results that answer none as the user's."""
    results, answering = _matched(messages)
    for index, message in enumerate(messages):
        if message.role == "tool":
            if index not in answering:
                text = message.content if message.content.strip() else NO_OUTPUT
                yield ChatMessage("user", STRAY_RESULT + text)
            continue
        if message.role != "assistant":
            yield ChatMessage(message.role, message.content, parts=message.parts)
            continue
        yield message
        for number, call in enumerate(message.tool_calls):
            yield ChatMessage("tool", results.get((index, number), NOT_CARRIED_OUT), tool_call_id=call.id)


def _matched(messages: Sequence[ChatMessage]) -> tuple[dict[tuple[int, int], str], set[int]]:
    """The result of each call that has one, by the numbers of message and call; and which messages these are.

    A result answers the newest message before it that has such a call. Some servers number calls anew in each reply.
    """
    results: dict[tuple[int, int], str] = {}
    answering: set[int] = set()
    unanswered: dict[str, list[deque[tuple[int, int]]]] = {}
    for index, message in enumerate(messages):
        if message.role == "assistant":
            own: dict[str, deque[tuple[int, int]]] = {}
            for number, call in enumerate(message.tool_calls):
                own.setdefault(call.id, deque()).append((index, number))
            for id, calls in own.items():
                unanswered.setdefault(id, []).append(calls)
        elif message.role == "tool" and message.tool_call_id is not None:
            newest = unanswered.get(message.tool_call_id)
            if newest:
                results[newest[-1].popleft()] = message.content
                answering.add(index)
                if not newest[-1]:
                    newest.pop()
    return results, answering


# -- the order of roles ---------------------------------------------------------------------------------------


def _joined_system(system: Sequence[ChatMessage]) -> list[ChatMessage]:
    """System messages as one, with the role of the first."""
    if len(system) < 2:
        return list(system)
    return [ChatMessage(system[0].role, "\n\n".join(message.content for message in system))]


def _alternating(messages: Sequence[ChatMessage], rules: Rules) -> list[ChatMessage]:
    """User and assistant in turns, beginning with the user."""
    runs: list[list[ChatMessage]] = []
    if not messages or messages[0].role != "user":
        runs.append([ChatMessage("user", START)])
    for message in messages:
        last = runs[-1][-1] if runs else None
        # the blocks of Anthropic's messages are joined where they are made
        if last and last.role == message.role != "tool" and not last.tool_calls and not rules.is_anthropic:
            runs[-1].append(message)
        else:
            runs.append([message])
    return list(map(_joined, runs))


def _joined(run: Sequence[ChatMessage]) -> ChatMessage:
    """Messages of one role as one. Of several states the one that goes with the calls stays, or the last."""
    if len(run) == 1:
        return run[0]
    return replace(
        run[-1],
        content="\n\n".join(message.content for message in run if message.content),
        parts=joined_parts([(message.content, message.parts) for message in run]),
    )


# -- the last step --------------------------------------------------------------------------------------------


def _finished(
    messages: Sequence[ChatMessage], rules: Rules, names: Mapping[str, str]
) -> Iterator[ChatMessage]:
    """The messages with ids, names, arguments and state as the server takes them."""
    calls = (call.id for message in messages for call in message.tool_calls)
    ids = iter(fit_call_ids(calls, rules.call_ids))
    pending: deque[str] = deque()  # the results follow in the order of the calls
    previous = ""
    for message in messages:
        if message.role == "user" and previous == "tool" and not rules.user_after_tool:
            yield _with_state(ChatMessage("assistant", NO_REPLY), rules)
        if message.role == "tool":
            yield replace(message, tool_call_id=pending.popleft())
        elif message.role == "assistant":
            fitted = tuple(
                ToolCall(id, names.get(call.name, call.name), json_object(call.arguments))
                for call, id in zip(message.tool_calls, ids, strict=False)
            )
            pending.extend(call.id for call in fitted)
            yield _with_state(replace(message, tool_calls=fitted), rules)
        else:
            yield message
        previous = message.role


def _with_state(message: ChatMessage, rules: Rules) -> ChatMessage:
    """A message with what a server wants of every message or call, also where another one wrote it."""
    state = as_dict(message.state) if rules.state else {}
    if rules.reasoning_content and not as_dict(state.get("message")).get("reasoning_content"):
        state = {
            **state,
            "message": {**as_dict(state.get("message")), "reasoning_content": UNKNOWN_REASONING},
        }
    if rules.thought_signatures and message.tool_calls and not _is_signed(message, state):
        state = {**state, "tool_calls": [{"extra_content": SKIP_SIGNATURE}]}
    return replace(message, state=state or None)


def _is_signed(message: ChatMessage, state: Mapping[str, Any]) -> bool:
    """Whether a call has a signature; of parallel calls only the first has one."""
    calls = as_list(state.get("tool_calls"))
    extras = (as_dict(as_dict(as_dict(call).get("extra_content")).get("google")) for call in calls)
    return len(calls) == len(message.tool_calls) and any(extra.get("thought_signature") for extra in extras)
