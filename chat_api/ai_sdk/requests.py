"""Requests of the AI SDK: what `useChat` sends, read into messages, results of tools and parameters. Pure functions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from marshmallow import ValidationError

from ..completions.draft_files import DraftPart, NamedFile, files_of
from ..completions.turns import Draft
from ..conversations.models import MAX_EXTERNAL_ID
from ..llm.stream_parser import MAX_TOOL_CALLS
from ..messages.models import ERROR_OUTPUT, JSON_OUTPUT
from ..messages.parts import BETWEEN_TEXTS, MAX_ATTACHMENT_IDS, MAX_CONTENT_BYTES, MAX_PARTS
from ..openai_api.content_parts import part_of
from ..openai_api.errors import RequestRefused as ContentRefused
from ..web.fields import portable
from .errors import RequestRefused

SUBMIT, REGENERATE = TRIGGERS = ("submit-message", "regenerate-message")
ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 10_000  # that are sent; only the last ones are looked at
MAX_CALL_ID = 255
MAX_TOOL_NAME = 255
OUTPUTS = ("output-available", "output-error", "output-denied")
# the address of a file, with or without a link
OWN_FILE = re.compile(
    r"/chat/attachments/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/content(?:[?]|$)"
)
DENIED = "The user did not allow this call."
# of a message, what says nothing to a model
IGNORED = ("reasoning", "step-start", "source-url", "source-document", "reasoning-file", "custom")


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool has given for a call."""

    call_id: str
    content: str
    kind: str | None  # of messages.models.OUTPUT_KINDS

    @property
    def draft(self) -> Draft:
        """It as a message."""
        return Draft("tool", self.content, tool_call_id=self.call_id, output_kind=self.kind)


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a message of the assistant: what one reply of a model says, and the results of its calls."""

    text: str
    calls: Sequence[Mapping[str, str]]
    results: Sequence[Result]


class SentMessage:
    """A UIMessage as it was sent; its parts are read when they are needed."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self._sent, self.where = content, where
        self.id: str = content["id"]
        self.role: str = content["role"]

    @property
    def parts(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The parts, and where each stands. Raises RequestRefused."""
        parts = self._sent.get("parts")
        if parts is None and isinstance(self._sent.get("content"), str):  # of versions before 5
            parts = [{"type": "text", "text": self._sent["content"]}]
        if not isinstance(parts, list):
            raise RequestRefused(f"{self.where}.parts must be a list.")
        for index, part in enumerate(parts):
            where = f"{self.where}.parts[{index}]"
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise RequestRefused(f"{where} must be an object with a type.")
            yield part, where

    @property
    def content(self) -> list[DraftPart]:
        """The texts and files of a message that is no assistant's. Raises RequestRefused."""
        found: list[DraftPart] = []
        for part, where in self.parts:
            if part["type"] == "text":
                found.append(_text_of(part, where))
            elif part["type"] == "file" and self.role == "user":
                found.append(_file_of(part, where))
            elif not _is_ignored(part):
                raise RequestRefused(f"{where}.type: {part['type'][:64]} is not supported here.")
        found = [part for part in found if part != ""]
        if len(files_of(found)) > MAX_ATTACHMENT_IDS or len(found) > MAX_PARTS:
            raise RequestRefused(
                f"{self.where} has more than {MAX_ATTACHMENT_IDS} files or {MAX_PARTS} parts."
            )
        return found

    @property
    def steps(self) -> list[Step]:
        """What an assistant's message consists of. Raises RequestRefused."""
        steps, texts, calls, results = list[Step](), list[str](), list[dict[str, str]](), list[Result]()

        def end_step() -> None:
            if texts or calls or results:
                text = _checked(BETWEEN_TEXTS.join(texts), self.where)
                steps.append(Step(text, [*calls], [*results]))
            for each in (texts, calls, results):
                each.clear()

        for part, where in self.parts:
            kind = part["type"]
            if kind == "text":
                if text := _text_of(part, where):
                    texts.append(text)
            elif kind == "step-start":
                end_step()
            elif kind.startswith("tool-") or kind == "dynamic-tool":
                calls.append(_call_of(part, where))
                if part.get("state") in OUTPUTS:
                    results.append(_result_of(part, where))
        end_step()
        return steps

    def drafts(self) -> list[Draft]:
        """It as messages of ours; the first one has its id. Raises RequestRefused."""
        drafts = []
        if self.role != "assistant":
            if content := self.content:
                text = _checked(
                    BETWEEN_TEXTS.join(part for part in content if isinstance(part, str)), self.where
                )
                drafts.append(Draft(self.role, text, parts=content if files_of(content) else ()))
        else:
            for step in self.steps:
                drafts.append(Draft("assistant", step.text, _storable(step.calls, self.where)))
                drafts += [result.draft for result in step.results]
        return [replace(draft, external_id=None if index else self.id) for index, draft in enumerate(drafts)]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request for a reply."""

    chat_id: str
    messages: Sequence[SentMessage]
    trigger: str
    message_id: str | None
    model: str | None
    system: str | None  # before all that is sent, for this reply alone
    options: Mapping[str, Any]  # parameters of the completion, as chat.completions has them

    @property
    def last(self) -> SentMessage:
        """The message that the request is about."""
        return self.messages[-1]


def read_request(body: Mapping[str, Any]) -> Sent:
    """What a body says. Raises RequestRefused."""
    trigger = body.get("trigger") or SUBMIT
    if trigger not in TRIGGERS:
        raise RequestRefused(f"trigger must be {' or '.join(TRIGGERS)}.")
    message_id = body.get("messageId")
    if message_id is not None:
        message_id = id_of(message_id, "messageId")
    model = body.get("model")
    if model is not None and not (isinstance(model, str) and model):
        raise RequestRefused("model must be the name of a model.")
    chat_id = id_of(body.get("id"), "id")
    if "/" in chat_id:
        raise RequestRefused("id must not have a slash: the chat is read at a path with it.")
    system, options = _system_of(body), _options_of(body)
    return Sent(chat_id, _messages_of(body, trigger), trigger, message_id, model, system, options)


def id_of(value: Any, where: str) -> str:
    """An id that a client has made. Raises RequestRefused."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_EXTERNAL_ID:
        raise RequestRefused(f"{where} must be a string of 1 to {MAX_EXTERNAL_ID} characters.")
    return value


def _messages_of(body: Mapping[str, Any], trigger: str) -> list[SentMessage]:
    sent = body.get("messages")
    if sent is None and body.get("message") is not None:
        return [_message_of(body["message"], "message")]
    if sent is None and trigger == REGENERATE:
        return []
    if not isinstance(sent, list) or len(sent) > MAX_MESSAGES:
        raise RequestRefused(f"messages: a list of 1 to {MAX_MESSAGES} messages.")
    if not sent and trigger == SUBMIT:
        raise RequestRefused("messages is empty.")
    return [_message_of(message, f"messages[{index}]") for index, message in enumerate(sent)]


def _message_of(message: Any, where: str) -> SentMessage:
    if not isinstance(message, dict):
        raise RequestRefused(f"{where} must be an object.")
    id_of(message.get("id"), f"{where}.id")
    if message.get("role") not in ROLES:
        raise RequestRefused(f"{where}.role must be one of {', '.join(ROLES)}.")
    return SentMessage(message, where)


def _system_of(body: Mapping[str, Any]) -> str | None:
    """The instructions of the page: a text, as assistant-ui sends it. Anything else is a field of the page's own."""
    system = body.get("system")
    return _checked(system, "system") if isinstance(system, str) and system else None


def _options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and tools; tools as OpenAI has them, nested or flat, or by their names, as assistant-ui has them."""
    parameters = body.get("parameters")
    if not isinstance(parameters, dict | None):
        raise RequestRefused("parameters must be an object.")
    options = {**(parameters or {})}
    tools = body.get("tools")
    if isinstance(tools, dict):
        tools = [{**tool, "name": name} if isinstance(tool, dict) else tool for name, tool in tools.items()]
    if tools is not None:
        if not isinstance(tools, list):
            raise RequestRefused("tools must be a list, or an object of tools by their names.")
        options["tools"] = [_tool_of(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    return options


def _tool_of(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        raise RequestRefused(f"{where} must be a function.")
    if isinstance(tool.get("function"), dict):
        return {"type": "function", "function": tool["function"]}
    names = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: tool[name] for name in names if tool.get(name) is not None},
    }


def _is_ignored(part: Mapping[str, Any]) -> bool:
    kind: str = part["type"]
    return kind in IGNORED or kind.startswith("data-")


def _text_of(part: Mapping[str, Any], where: str) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise RequestRefused(f"{where}.text must be a string.")
    return text


def _file_of(part: Mapping[str, Any], where: str) -> DraftPart:
    """A file: in the request, at an address, or one that the user has here, by its address."""
    url, name, file_type = part.get("url"), part.get("filename"), part.get("mediaType")
    if not isinstance(url, str) or not url:
        raise RequestRefused(f"{where}.url must be a URL.")
    if not isinstance(file_type, str) or not file_type:
        raise RequestRefused(f"{where}.mediaType must be the type of a file.")
    if not isinstance(name, str | None):
        raise RequestRefused(f"{where}.filename must be a string.")
    is_inline = url[:5].lower() == "data:"
    if not is_inline and (ours := OWN_FILE.search(url)):
        return NamedFile(ours[1].lower())
    if is_inline:
        given: dict[str, Any] = {"type": "input_file", "file_data": url, "filename": name}
    else:
        given = {"type": "input_image", "image_url": url}
    try:
        return part_of(given, where, takes_files=True)
    except ContentRefused as error:  # it names fields of another dialect
        detail = error.detail.replace(str(error.extra.get("param")), f"{where}.url")
        raise RequestRefused(detail) from None


def _checked(text: str, where: str) -> str:
    if len(text.encode()) > MAX_CONTENT_BYTES:
        raise RequestRefused(f"{where} has more than {MAX_CONTENT_BYTES} bytes of text.")
    return text


def _call_of(part: Mapping[str, Any], where: str) -> dict[str, str]:
    name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
    if not isinstance(name, str) or not name:
        raise RequestRefused(f"{where}.toolName must be a string.")
    given = part.get("input", part.get("rawInput"))
    arguments = (
        given if isinstance(given, str) else _json_of({} if given is None else given, f"{where}.input")
    )
    return {"id": _call_id_of(part, where), "name": name, "arguments": arguments}


def _result_of(part: Mapping[str, Any], where: str) -> Result:
    call_id = _call_id_of(part, where)
    if part["state"] == "output-denied":
        return Result(call_id, DENIED, ERROR_OUTPUT)
    if part["state"] == "output-error":
        error = part.get("errorText")
        return Result(call_id, _checked(error if isinstance(error, str) else "", where), ERROR_OUTPUT)
    output = part.get("output")
    if isinstance(output, str):
        return Result(call_id, _checked(output, where), None)
    return Result(call_id, _checked(_json_of(output, f"{where}.output"), where), JSON_OUTPUT)


def _json_of(value: Any, where: str) -> str:
    """A value as JSON, which can be read again wherever it is shown. Raises RequestRefused."""
    try:
        return orjson.dumps(portable(value)).decode()
    except ValidationError as error:
        raise RequestRefused(f"{where}: {' '.join(map(str, error.messages))}") from None


def _storable(calls: Sequence[Mapping[str, str]], where: str) -> Sequence[Mapping[str, str]]:
    """The calls of a step, within the limits of what is stored. Raises RequestRefused."""
    if len(calls) > MAX_TOOL_CALLS:
        raise RequestRefused(f"{where} has a step with more than {MAX_TOOL_CALLS} calls.")
    for call in calls:
        if len(call["name"]) > MAX_TOOL_NAME:
            raise RequestRefused(f"{where}: the name of a tool has at most {MAX_TOOL_NAME} characters.")
        _checked(call["arguments"], where)
    return calls


def _call_id_of(part: Mapping[str, Any], where: str) -> str:
    call_id = part.get("toolCallId")
    if not isinstance(call_id, str) or not 1 <= len(call_id) <= MAX_CALL_ID:
        raise RequestRefused(f"{where}.toolCallId must be a string of 1 to {MAX_CALL_ID} characters.")
    return call_id


def results_of(message: SentMessage) -> list[Result]:
    """The results of tools in an assistant's message, of all its steps. Raises RequestRefused."""
    return [result for step in message.steps for result in step.results]
