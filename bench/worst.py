"""The worst request of each route that is still accepted: what it costs, and for how many bytes."""

import http.client
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bench.client import Account, RequestRefused
from bench.processes import cpu_between, cpu_seconds
from bench.servers import HOST, Database, Gunicorn
from bench.suite import Report, Row

EMOJI = "\U0001f600"  # as an escape it takes twelve bytes
WORDS = 170_000
LONG = 5000  # messages of a branch
TIME = "2026-01-01T00:00:00.000000Z"
HEAD = {"type": "export", "version": 1, "created_at": TIME}
NDJSON = "application/x-ndjson"
PASSWORD = "correct horse battery staple " * 4


class Prey:
    """A user who has as much as fits into one page, and what the requests refer to."""

    def __init__(self, port: int) -> None:
        self.port, self.account = port, Account(port)
        self.conversation = self.account.create_conversation("The worst")
        self.message = self.account.append_message(self.conversation, "Hello")["id"]
        for number in range(4):
            self.account.append_message(self.conversation, _words(number))
        provider = {"name": "P", "api_endpoint": "https://p.example/v1"}
        self.provider = self.account.call("POST", "/chat/llm-providers", provider)["id"]
        self.config(self.provider)
        self.number = 0
        self.long_conversation = ""
        self.leaves = ("", "")  # of its two branches, which fork at its beginning

    def unique(self) -> str:
        """Something that no request before has named."""
        self.number += 1
        return f"worst-{self.number}"

    def new_id(self) -> str:
        """An id that nothing has yet."""
        self.number += 1
        return f"019ab2c4-5d6e-7f80-9a1b-{self.number:012x}"

    def config(self, provider_id: str) -> None:
        """Store a key for a provider."""
        config = {"user_id": self.account.user_id, "provider_id": provider_id, "api_key": "sk-1"}
        self.account.call("POST", "/chat/user-llm-configs", {**config, "default_model": "m"})

    def import_lines(self, *lines: dict[str, Any]) -> None:
        """Import lines of an export."""
        status, _ = request("POST", "/chat/import", _file_of(lines), self.account, NDJSON)
        if status != 200:
            raise RequestRefused(f"The import was answered with {status}.")


@dataclass(frozen=True)
class Target:
    """What is there for one request, and who sends it."""

    id: str
    sender: Account


@dataclass(frozen=True)
class Worst:
    """The worst request of a route."""

    method: str
    path: str  # with `{target}` for the id of what `prepare` makes
    what: str
    body: Callable[[Prey], Any] | None = None
    media_type: str = "application/json"
    prepare: Callable[[Prey], Target] | None = None


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
    return _file_of([_conversation_line(prey) for _ in range(300)])


def _file_of(lines: Sequence[dict[str, Any]]) -> str:
    kinds = Counter(line["type"] for line in lines)
    end = {"type": "end", "conversations": kinds["conversation"], "messages": kinds["message"]}
    return "\n".join(map(json.dumps, [HEAD, *lines, end]))


def _conversation_line(prey: Prey, **fields: Any) -> dict[str, Any]:
    return {"type": "conversation", "id": prey.new_id(), "title": "x", "archived": False, "pinned": False,
            "last_position": 0, "active_leaf_id": None, "created_at": TIME, "updated_at": TIME, **fields}  # fmt: skip


def _branches(prey: Prey, count: int) -> tuple[str, list[list[str]]]:
    """Import a conversation of so many long branches; its id, and those of the messages of each branch."""
    first = _conversation_line(prey)
    lines, branches, position = [first], [], 0
    for _ in range(count):
        branch: list[str] = []
        for _ in range(LONG):
            position += 1
            message = {"type": "message", "id": prey.new_id(), "conversation_id": first["id"], "role": "user",
                       "parent_id": branch[-1] if branch else None, "position": position, "content": "x",
                       "created_at": TIME}  # fmt: skip
            branch.append(str(message["id"]))
            lines.append(message)
        branches.append(branch)
    first |= {"last_position": position, "active_leaf_id": branches[0][-1]}
    prey.import_lines(*lines)
    return first["id"], branches


# -- what is made for one request ----------------------------------------------------------------------------


def _own(make: Callable[[Prey], str]) -> Callable[[Prey], Target]:
    """Something of the user's own."""
    return lambda prey: Target(make(prey), prey.account)


def _stranger(prey: Prey) -> Target:
    """Another account, which has as much to erase."""
    other = Account(prey.port)
    conversation = other.create_conversation("To be erased")
    for number in range(4):
        other.append_message(conversation, _words(number))
    return Target(other.user_id, other)


def _somebody(prey: Prey) -> Target:
    """An account whose password is as long as it may be."""
    credentials = {"email": f"{prey.unique()}@{prey.account.user_id}.example", "password": PASSWORD}
    prey.account.call("POST", "/auth/register", credentials)
    return Target("", Account(prey.port, credentials))


def _long_conversation(prey: Prey) -> str:
    """One with two branches, of which the request takes the path from one to the other."""
    if not prey.long_conversation:
        prey.long_conversation, (first, second) = _branches(prey, 2)
        prey.leaves = (first[-1], second[-1])
    prey.leaves = prey.leaves[::-1]
    return prey.long_conversation


def _large_conversation(prey: Prey) -> str:
    conversation = prey.account.create_conversation("Large")
    for number in range(4):
        prey.account.append_message(conversation, _words(number))
    return conversation


def _provider(prey: Prey) -> str:
    provider = {"name": "P", "api_endpoint": "https://p.example/v1"}
    return str(prey.account.call("POST", "/chat/llm-providers", provider)["id"])


def _provider_with_key(prey: Prey) -> str:
    provider = _provider(prey)
    prey.config(provider)
    return provider


def _attachment(prey: Prey) -> str:
    attachment = {"message_id": prey.message, "file_type": "image/png", "file_path": EMOJI * 4096}
    return str(prey.account.call("POST", "/chat/attachments", attachment)["id"])


def _token(prey: Prey) -> str:
    return str(prey.account.call("POST", "/auth/tokens", {"name": EMOJI * 100})["id"])


def _settings(prey: Prey) -> dict[str, Any]:
    """As much as a provider may have."""
    return {
        "name": EMOJI * 255,
        "api_endpoint": f"https://p.example/{prey.unique()}/" + "p" * 2000,
        "headers": {f"X-{number}": "h" * 790 for number in range(20)},
        "extra_body": {"x": [0] * 8000},
    }


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
        "path of 4,096 emoji",
        lambda prey: {"message_id": prey.message, "file_type": "image/png", "file_path": EMOJI * 4096},
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
    Worst("POST", "/chat/import", "300 conversations", _export, NDJSON),
    Worst(
        "PATCH",
        "/chat/conversations/{target}",
        f"a path of {LONG:,} messages for another",
        lambda prey: {"title": EMOJI * 255, "active_leaf_id": prey.leaves[0]},
        prepare=_own(_long_conversation),
    ),
    Worst("PATCH", "/chat/llm-providers/{target}", "all there may be", _settings, prepare=_own(_provider)),
    Worst(
        "PATCH",
        "/auth/me",
        "longest password",
        lambda _: {"current_password": PASSWORD, "password": PASSWORD[::-1]},
        prepare=_somebody,
    ),
    Worst(
        "PUT",
        "/chat/user-llm-configs/{target}",
        "longest key",
        lambda _: {"api_key": "k" * 4096, "default_model": EMOJI * 255},
        prepare=_own(lambda prey: f"{prey.account.user_id}/{prey.provider}"),
    ),
    Worst("DELETE", "/chat/attachments/{target}", "longest path", prepare=_own(_attachment)),
    Worst(
        "DELETE",
        "/chat/messages/{target}",
        f"with {LONG:,} below it",
        prepare=_own(lambda prey: _branches(prey, 1)[1][0][0]),
    ),
    Worst(
        "DELETE",
        "/chat/conversations/{target}",
        "4 MiB of different words",
        prepare=_own(_large_conversation),
    ),
    Worst("DELETE", "/chat/llm-providers/{target}", "with a key", prepare=_own(_provider_with_key)),
    Worst(
        "DELETE",
        "/chat/user-llm-configs/{target}",
        "a key",
        prepare=_own(lambda prey: f"{prey.account.user_id}/{_provider_with_key(prey)}"),
    ),
    Worst("DELETE", "/auth/tokens/{target}", "longest name", prepare=_own(_token)),
    Worst("DELETE", "/auth/me", "4 MiB of different words", lambda _: {}, prepare=_stranger),
)


def measure_worst(service: Gunicorn, database: Database, rounds: int, report: Report) -> list[Row]:
    """A row for each of them: medians of so many requests, one after the other."""
    prey = Prey(service.port)
    return [_row(worst, prey, service, database, rounds, report) for worst in WORST]


def _row(worst: Worst, prey: Prey, service: Gunicorn, database: Database, rounds: int, report: Report) -> Row:
    title = f"{worst.method} {worst.path.partition('?')[0]}, {worst.what}"
    used_ms, sent, received = [], 0, 0
    for _ in range(rounds):
        target = worst.prepare(prey) if worst.prepare else Target("", prey.account)
        content = worst.body(prey) if worst.body else None
        text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
        path = worst.path.format(conversation=prey.conversation, target=target.id)
        before = cpu_seconds([service.process.pid, *database.server_pids])
        sent, (status, received) = (
            len(text),
            request(worst.method, path, text, target.sender, worst.media_type),
        )
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


def request(method: str, path: str, text: str, sender: Account, media_type: str) -> tuple[int, int]:
    """The status, and how many bytes were answered."""
    headers = {"Authorization": f"Bearer {sender.token}", "Content-Type": media_type}
    connection = http.client.HTTPConnection(HOST, sender.port, timeout=60)
    try:
        connection.request(method, path, text.encode() or None, headers)
        answer = connection.getresponse()
        return answer.status, len(answer.read())
    finally:
        connection.close()
