"""What a server's refusal of a history says about the options of the next one. Used by complaints.py."""

import re
from typing import Any

from .openai.state import MESSAGE_FIELDS
from .options import RequestOptions

# words, in lower case -> the option that they are about
_WORDS: tuple[tuple[re.Pattern[str], dict[str, Any]], ...] = (
    (
        re.compile(
            r"assistant (message |response )?prefill|must end with a user message|expected last role"
            r"|last message must (have|be)[^.]{0,40}\b(user|tool)\b"
        ),
        {"prefill": False},
    ),
    (re.compile(r"unexpected role '?user'? after role '?tool"), {"user_after_tool": False}),
    (re.compile(r"roles? (must|should)[^.]{0,40}alternat|should alternate"), {"alternation": True}),
    (re.compile(r"tool call id[^.]{0,80}length of 9"), {"call_ids": "mistral"}),
    (
        re.compile(r"reasoning_?content[^.]{0,80}(passed back|is missing|required)"),
        {"reasoning_content": True},
    ),
    (re.compile(r"missing (a |the )?\W?thought_?signature"), {"thought_signatures": True}),
    (
        re.compile(
            r"non-?whitespace text|text content blocks must be non-?empty|text field[^.]{0,60}is blank"
        ),
        {"blank_text": False},
    ),
)
_FIELD = re.compile(
    rf"\b({'|'.join(sorted(MESSAGE_FIELDS - {'reasoning'}))}|messages\W\d+\W{{1,3}}reasoning)\b"
)
_SIGNATURE = re.compile(r"(invalid|corrupted?) \W?(thought[ _]?)?signature")


def changes_for_order(words: str, options: RequestOptions) -> dict[str, Any] | None:
    """The options that the words of a refusal are about, None for none that would change anything."""
    for pattern, changes in _WORDS:
        if pattern.search(words) and options.merged(changes) != options:
            return changes
    return None


def changes_for_signature(words: str, options: RequestOptions) -> dict[str, Any] | None:
    """The same where a signature is refused, which says something about this history only."""
    return {"state": False} if options.state and _SIGNATURE.search(words) else None


def changes_for_fields(words: str, options: RequestOptions) -> dict[str, Any] | None:
    """The same where words that refuse a field name one of those that go back to a server."""
    return {"state": False, "reasoning_content": False} if options.state and _FIELD.search(words) else None
