"""Carries out orders for a client: each comes as a line of JSON on stdin, and is answered by one on stdout.

An order names what to do, the service (`base_url`, `key`, `model`), and how: `api` ("chat" or "responses"), `stream`,
and the `limit` of tokens, if there is one. The answer is what came of
it, or the exception that the client raised: the names of its classes, status and code.
"""

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

WEATHER: dict[str, Any] = {
    "title": "Weather",
    "type": "object",
    "properties": {"city": {"enum": ["Lisbon", "Porto"]}, "degrees": {"enum": [27, 28]}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
GET_WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def weather_of(city: str) -> str:
    """What the tool says."""
    return f"{city}: 28 degrees"


def limit_of(order: SimpleNamespace) -> dict[str, int]:
    """The parameter of a chat completion that limits its tokens."""
    return {} if order.limit is None else {"max_tokens": order.limit}


def drive(*actions: Callable[[SimpleNamespace], Any]) -> None:
    """Carry out what is ordered, with the function of that name, until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # clients print
    named = {action.__name__: action for action in actions}
    for line in sys.stdin:
        order = SimpleNamespace(**json.loads(line))
        try:
            answer = {"got": named[order.do](order)}
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"raised": kinds, "status": getattr(error, "status_code", None)}
            answer |= {"code": getattr(error, "code", None), "message": str(error)}
        print(json.dumps(answer, default=str), file=answers, flush=True)
