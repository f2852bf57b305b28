"""What a server's refusal of files says about the model: which kinds of them it never takes. Used by complaints.py."""

import re
from collections.abc import Mapping
from typing import Any

from .parts import AUDIO, FILE, IMAGE, Kind, has_files
from .request import ChatRequest

# An option, the kind of files, and words in lower case. They are about the model, not about one file's format or size.
_WORDS: tuple[tuple[str, Kind, re.Pattern[str]], ...] = (
    (
        "images",
        IMAGE,
        re.compile(
            r"not (support|accept) (any )?(image|vision|multimodal)s?\b(?! ?[/(:]| ?(format|type|url|size|larger))"
            r"|support image input|images? inputs? (is|are) (not supported|disabled)|images are not supported"
            r"|image_url is (not|only) supported|(unknown variant|invalid value:) [`']image_url[`']"
            r"|is not a multimodal model|mmproj"
        ),
    ),
    (
        "audio",
        AUDIO,
        re.compile(
            r"not (support|accept) (any )?audio\b(?! ?[/(:]| ?(format|type|url|size|larger))|support audio input"
            r"|audio inputs? (is|are) (not supported|disabled)|input_audio is not supported"
            r"|(unknown variant|invalid value:) [`']input_audio[`']"
        ),
    ),
    (
        "pdfs",
        FILE,
        re.compile(
            r"not (support|accept) (any )?(file|pdf|document)s?( input)?s?\b(?! ?[/(:]| ?(format|type|url|size|larger))"
            r"|support file input|(unknown variant|invalid value:) [`']file[`']"
        ),
    ),
)
_KINDS = {option: kind for option, kind, _ in _WORDS}


def changes_for_files(words: str, request: ChatRequest) -> dict[str, Any]:
    """The options that the words of a refusal are about, of those for files that the request has."""
    parts = [part for message in request.messages for part in message.parts]
    if not parts:
        return {}
    return {
        option: False
        for option, kind, pattern in _WORDS
        if has_files(parts, (kind,)) and pattern.search(words)
    }


def has_in_newest(request: ChatRequest, changes: Mapping[str, Any]) -> bool:
    """Whether the newest message of the user has a file that these changes are about."""
    newest = next((message for message in reversed(request.messages) if message.role == "user"), None)
    return newest is not None and has_files(newest.parts, [_KINDS[option] for option in changes])
