"""The worst request of each route that is still accepted: what it costs, and for how many bytes."""

import http.client
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bench.client import Account
from bench.processes import cpu_between, cpu_seconds
from bench.servers import HOST, Database, Gunicorn
from bench.suite import Report, Row

EMOJI = "\U0001f600"  # as an escape it takes twelve bytes
WORDS = 170_000
PASSWORD = "correct horse battery staple " * 4


class Prey:
    """A user who has as much as fits into one page, and what the requests refer to."""

    def __init__(self, port: int) -> None:
        self.account = Account(port)
        self.conversation = self.account.create_conversation("The worst")
        self.message = self.account.append_message(self.conversation, "Hello")["id"]
        for number in range(4):
            self.account.append_message(self.conversation, _words(number))
        provider = {"name": "P", "api_endpoint": "https://p.example/v1"}
        self.provider = self.account.call("POST", "/chat/llm-providers", provider)["id"]
        config = {"user_id": self.account.user_id, "provider_id": self.provider, "api_key": "sk-1"}
        self.account.call("POST", "/chat/user-llm-configs", {**config, "default_model": "m"})
        self.number = 0

    def unique(self) -> str:
        """Something that no request before has named."""
        self.number += 1
        return f"worst-{self.number}"


@dataclass(frozen=True)
class Worst:
    """The worst request of a route."""

    method: str
    path: str
    what: str
    body: Callable[[Prey], Any] | None = None
    media_type: str = "application/json"


def _words(number: int) -> str:
    """Nearly 1 MiB of words that no other message has: the most for the search index."""
    return " ".join(f"{index * 7 + number:x}" for index in range(WORDS))


def _message(content: str) -> Callable[[Prey], Any]:
    return lambda prey: {"conversation_id": prey.conversation, "role": "user", "content": content}


def _completion(prey: Prey) -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(90):
        deep = {"a": deep}
    wide = {f"k{number}": number for number in range(12_000)}
    function = {"name": "f", "description": EMOJI * 1000, "parameters": {"deep": deep, "wide": wide}}
    tools = [{"type": "function", "function": function}]
    parameters = {"tools": tools, "response_format": {"wide": wide, "deep": deep}}
    return {
        "conversation_id": prey.conversation,
        "provider_id": prey.provider,
        "content": "\x01" * 900_000,
        "parameters": parameters,
    }


def _export(prey: Prey) -> str:
    """Some hundred short conversations, in the format of our exports."""
    time = "2026-01-01T00:00:00.000000Z"
    lines: list[dict[str, Any]] = [{"type": "export", "version": 1, "created_at": time}]
    conversation = {"type": "conversation", "title": "x", "archived": False, "pinned": False, "last_position": 0,
                    "active_leaf_id": None, "created_at": time, "updated_at": time}  # fmt: skip
    for number in range(300):
        lines.append(conversation | {"id": _id(prey, number)})
    return "\n".join(map(json.dumps, lines))


def _id(prey: Prey, number: int) -> str:
    prey.number += 1
    return f"019ab2c4-5d6e-7f80-9a1b-{prey.number * 1000 + number:012x}"


PREFIXES = " ".join(f"{digit}*" for digit in "12345678")
WORST = (
    Worst(
        "POST",
        "/auth/register",
        "longest password",
        lambda prey: {
            "email": f"{prey.unique()}-{'e' * 40}@{prey.account.user_id}.example",
            "password": PASSWORD,
        },
    ),
    Worst("POST", "/auth/login", "a login", lambda prey: prey.account.credentials),
    Worst(
        "POST",
        "/chat/conversations",
        "title of 255 emoji",
        lambda prey: {"user_id": prey.account.user_id, "title": EMOJI * 255},
    ),
    Worst("GET", "/chat/conversations?limit=1000", "longest page"),
    Worst("POST", "/chat/messages", "1 MiB, each byte an escape", _message("\x01" * 2**20)),
    Worst("POST", "/chat/messages", "1 MiB of separators of JSON", _message(",[{:" * 2**18)),
    Worst("POST", "/chat/messages", "1 MiB of different words", _message(_words(99))),
    Worst("GET", "/chat/conversations/{conversation}/messages?limit=1000", "4 MiB"),
    Worst(
        "POST",
        "/chat/attachments",
        "path of 1,024 emoji",
        lambda prey: {"message_id": prey.message, "file_type": "image/png", "file_path": EMOJI * 1024},
    ),
    Worst(
        "POST",
        "/chat/llm-providers",
        "longest URL",
        lambda prey: {"name": EMOJI * 255, "api_endpoint": "https://p.example/" + "p" * 2030},
    ),
    Worst("POST", "/chat/completions?dry_run=true", "all of the parameters", _completion),
    Worst("GET", "/chat/search?" + urlencode({"q": PREFIXES, "limit": 100}), "8 prefixes"),
    Worst(
        "GET", "/chat/search?" + urlencode({"q": f"{PREFIXES} -nothing", "sort": "relevance"}), "by relevance"
    ),
    Worst("GET", "/chat/export", "all of it"),
    Worst("POST", "/chat/import", "300 conversations", _export, "application/x-ndjson"),
)


def measure_worst(service: Gunicorn, database: Database, rounds: int, report: Report) -> list[Row]:
    """A row for each of them: medians of so many requests, one after the other."""
    prey = Prey(service.port)
    return [_row(worst, prey, service, database, rounds, report) for worst in WORST]


def _row(worst: Worst, prey: Prey, service: Gunicorn, database: Database, rounds: int, report: Report) -> Row:
    title = f"{worst.method} {worst.path.partition('?')[0]}, {worst.what}"
    used_ms, sent, received = [], 0, 0
    for _ in range(rounds):
        before = cpu_seconds([service.process.pid, *database.server_pids])
        sent, received, status = _send(worst, prey, service.port)
        after = cpu_seconds([service.process.pid, *database.server_pids])
        used_ms.append(cpu_between(before, after) * 1000)
        if not 200 <= status < 300:
            report.fail(f"{database.name}: {title}", {str(status): 1})
    median_ms = statistics.median(used_ms)
    cells = {
        "database": database.name,
        "request": title,
        "KiB sent": f"{sent / 1024:,.1f}",
        "KiB answered": f"{received / 1024:,.1f}",
        "CPU ms": f"{median_ms:.1f}",
        "CPU us/KiB": f"{median_ms * 1024 * 1000 / max(sent + received, 1024):.0f}",
    }
    return Row(f"{title} on {database.name}", cells)


def _send(worst: Worst, prey: Prey, port: int) -> tuple[int, int, int]:
    """Bytes sent and received, and the status."""
    content = worst.body(prey) if worst.body else None
    text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
    headers = {"Authorization": f"Bearer {prey.account.token}", "Content-Type": worst.media_type}
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        path = worst.path.format(conversation=prey.conversation)
        connection.request(worst.method, path, text.encode() or None, headers)
        answer = connection.getresponse()
        return len(text), len(answer.read()), answer.status
    finally:
        connection.close()
