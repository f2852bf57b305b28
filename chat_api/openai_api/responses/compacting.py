"""Requests that store nothing: how long an input is, and a summary of it by the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...completions.records import StoredCompletion
from ...completions.turns import Draft
from ...errors import ProviderFailed
from ...llm import error_codes
from ...messages.parts import MAX_CONTENT_BYTES
from ...user_llm_configs.service import Choice
from .. import ids
from ..compactions import compaction_item
from .objects import seconds, usage_of

SUMMARIZE = Draft(
    "user",
    "Write a summary of our conversation so far, from which it can be continued without it. Keep every fact, name,"
    " number, decision, instruction and open question that may matter later, and what tools have returned. Write the"
    " summary alone.",
)
OF_COMPACTION = ("model", "input", "previous_response_id", "conversation", "instructions", "prompt_cache_key")
# how the response itself is made, which does not matter here
HOW = ("store", "background", "stream", "stream_options")


def unstored(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request for a response of which nothing is stored."""
    return {**{name: value for name, value in body.items() if name not in HOW}, "store": False}


def with_model(body: dict[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """The same request with a model, of the first provider where it names none: the estimate is that of any model."""
    if body.get("model") is None and choices:
        return {**body, "model": f"{choices[0].prefix}/{choices[0].default_model or 'any'}"}
    return body


def to_compact(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request is summed up: without tools, formats and all else that says how to go on."""
    return unstored({name: body[name] for name in OF_COMPACTION if name in body})


def tokens_object(tokens: int) -> dict[str, Any]:
    """The answer to a request that counts."""
    return {"object": "response.input_tokens", "input_tokens": tokens}


def compacted_object(stored: StoredCompletion, *, user_id: str) -> dict[str, Any]:
    """The answer with the summary. Raises ProviderFailed where the model wrote none."""
    summary = (stored.message or {}).get("content", "").strip()
    if not summary:
        raise ProviderFailed(
            {"status": 502, "code": error_codes.FAILED, "detail": "The model wrote no summary."}
        )
    summary = summary.encode()[:MAX_CONTENT_BYTES].decode(errors="ignore")
    return {
        "id": ids.written(ids.RESPONSE, str(stored.row["id"])),
        "object": "response.compaction",
        "created_at": seconds(stored.row["created_at"]),
        "output": [compaction_item(user_id=user_id, summary=summary)],
        "usage": usage_of(stored.row),
    }
