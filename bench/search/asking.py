"""A client with one connection that takes the time of its requests."""

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from bench.account import Account, RequestRefused
from bench.servers import HOST


@dataclass(frozen=True)
class Times:
    """How long some requests took, in milliseconds."""

    ms: tuple[float, ...]

    def part(self, share: float) -> float:
        """What this share of the requests took at the most."""
        return sorted(self.ms)[min(int(len(self.ms) * share), len(self.ms) - 1)]

    @property
    def p50(self) -> float:
        """The median."""
        return self.part(0.5)

    @property
    def p95(self) -> float:
        """What 95 of 100 took at the most."""
        return self.part(0.95)


class Asker:
    """Sends requests of an account over one connection that stays open."""

    def __init__(self, account: Account, port: int) -> None:
        self.account = account
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        self._token = account.token

    def ask(self, method: str, path: str, body: Any = None) -> tuple[float, Any]:
        """Milliseconds, and the answer's body. Raises RequestRefused unless it is 2xx."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        started = time.perf_counter()
        self._connection.request(method, path, text, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took_ms = (time.perf_counter() - started) * 1e3
        if not 200 <= answer.status < 300:
            raise RequestRefused(f"{method} {path}: {answer.status} {content.decode()[:500]}")
        return took_ms, json.loads(content) if content else None
