"""How a reply ended, by the word with which its provider says so. One table for all protocols.

A reply is complete only if the word is known to mean that. Every other word, also one that nobody has heard of, means
that something is missing: a provider that breaks off says so with a word of its own.
"""

from .redaction import cleaned

STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
MAX_LENGTH = 64

# What clients get -> the words for it, in lower case and with underscores.
WORDS = {
    # the good ends
    STOP: "stop end end_turn stop_sequence stop_token eos eos_token end_of_text endoftext complete completed finished",
    TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls",
    # Ends at which something is missing, in the words of both protocols. What other vendors say instead (SAFETY,
    # model_length) is passed on as it is: it says more.
    LENGTH: "length max_tokens model_context_window_exceeded",
    CONTENT_FILTER: "content_filter refusal",
}
COMPLETE = frozenset((STOP, TOOL_CALLS))
PREFIX = "finish_reason_"  # of the names of Google's constants

_KNOWN = {word: reason for reason, words in WORDS.items() for word in words.split()}


def finish_reason(word: str) -> str:
    """What clients get for a provider's word: one of the four of `WORDS`, or the word itself, cleaned."""
    return _KNOWN.get(_normalized(word)) or cleaned(word, MAX_LENGTH) or "unknown"


def is_complete(reason: str) -> bool:
    """Whether a reply that ended for this reason is whole."""
    return reason in COMPLETE


def _normalized(word: str) -> str:
    return word[: 2 * MAX_LENGTH].strip().lower().replace("-", "_").removeprefix(PREFIX)
