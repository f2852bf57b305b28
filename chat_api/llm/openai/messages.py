"""Messages of OpenAI's chat completions, as they are sent: those of `history`, one by one."""

from collections.abc import Iterable
from typing import Any

from ..parts import AUDIO, IMAGE, EncodedContent, FilePart, LinkPart, Part, TextPart, data_url
from ..request import ChatMessage
from ..untrusted_json import as_dict, as_list
from .dialects import UNKNOWN, Dialect
from .state import CALL_FIELDS, MESSAGE_FIELDS

# media types of recordings, and what `input_audio` calls them
AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/ogg": "ogg",
    "audio/aac": "aac",
    "audio/aiff": "aiff",
    "audio/x-aiff": "aiff",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/m4a": "m4a",
    "audio/webm": "webm",
}


def sent_messages(messages: Iterable[ChatMessage], dialect: Dialect = UNKNOWN) -> list[dict[str, Any]]:
    """The messages of a request, the parts of which are in the words of the vendor."""
    return [_message(message, dialect) for message in messages]


def _message(message: ChatMessage, dialect: Dialect) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.parts:
        sent["content"] = [sent_part(part, dialect) for part in message.parts]
    if message.state:
        own = as_dict(message.state.get("message"))
        sent |= {name: own[name] for name in MESSAGE_FIELDS if own.get(name) is not None}
    if message.tool_calls:
        sent["content"] = message.content or None
        sent["tool_calls"] = _calls(message)
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def sent_part(part: Part, dialect: Dialect) -> dict[str, Any]:
    """A part of a message's content."""
    if isinstance(part, LinkPart):
        return {"type": "image_url", "image_url": {"url": part.url}}
    if not isinstance(part, FilePart):
        return {"type": "text", "text": part.text if isinstance(part, TextPart) else part.as_text()}
    if part.kind == IMAGE:
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    if part.kind == AUDIO:
        encoded = EncodedContent(part.content)
        if dialect.bare_audio:
            return {"type": "input_audio", "input_audio": encoded}
        known = AUDIO_FORMATS.get(part.media_type, part.media_type.partition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": known}}
    return {"type": "file", "file": {"filename": part.file_name, "file_data": data_url(part)}}


def _calls(message: ChatMessage) -> list[dict[str, Any]]:
    extras = as_list((message.state or {}).get("tool_calls"))
    extras = [*extras, *[None] * (len(message.tool_calls) - len(extras))]  # the state is not ours to change
    return [
        {
            **{name: value for name, value in as_dict(extra).items() if name not in CALL_FIELDS},
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call, extra in zip(message.tool_calls, extras, strict=False)
    ]
