"""Streams of a provider that replies at a set pace, requested from a service or, for comparison, from the provider.

The client runs in a process of its own and compares what it receives with what the provider sent; then question and
reply are compared with the database's, byte for byte.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, groupby

import sqlalchemy as sa

from bench.client import Account
from bench.figures import percentile
from bench.load import post_request
from bench.processes import cpu_between, cpu_seconds
from bench.servers import HOST, Database, Gunicorn, PipedProcess
from bench.streaming.pace import Pace
from bench.suite import Report
from chat_api.conversations.models import Conversation
from chat_api.database.columns import new_id
from chat_api.messages.models import Message

LIMIT_S = 90.0
NATIVE, CHAT = "/chat/completions", "/v1/chat/completions"
ROWS_AT_ONCE = 1000
Watch = Callable[[str, float, int], None]


@dataclass(frozen=True)
class StreamMeasurement:
    """Results of the client. Times to the first text count from before the connection is opened.

    `failed`: the indices of the streams that brought anything else than the provider's whole text and a good end.
    `late`: how long after the provider's own end a stream ended, counted from its first text.
    """

    failures: dict[str, int]
    failed: list[int]
    ttft_s: list[float]
    gap_p99_ms: float
    late_p99_ms: float
    deltas: int
    seconds: float
    most_at_once: int
    client_cpu_s: float

    def ttft_ms(self, share: float) -> float:
        """The time to the first text within which `share` of the streams had it."""
        return percentile(self.ttft_s, share) * 1000


@dataclass(frozen=True)
class Streamed:
    """Streams through a service: what the client measured, how many failed, and the CPU time of both processes."""

    measurement: StreamMeasurement
    failed: int
    server_cpu_s: float
    database_cpu_s: float


@dataclass(frozen=True)
class Provider:
    """The provider that streams at a set pace."""

    port: int
    pid: int

    def stream(self, paces: Sequence[Pace], report: Report) -> StreamMeasurement:
        """The same streams, one after the other, without a service: what provider and client take alone."""
        requests = [
            post_request(self.port, "/v1/chat/completions", "", question_of(pace), "Connection: close\r\n")
            for pace in paces
        ]
        measurement = run_client("provider", self.port, requests, paces, at_once=1)
        report.fail("the provider itself", measurement.failures)
        return measurement

    def stream_through(self, relay: Gunicorn, paces: Sequence[Pace], report: Report, at_once: int) -> float:
        """The same streams through the bare relay; its CPU in seconds."""
        path = f"/relay/{self.port}"
        requests = [
            post_request(relay.port, path, "", question_of(pace), "Connection: close\r\n") for pace in paces
        ]
        before = cpu_seconds([relay.process.pid])
        measurement = run_client("provider", relay.port, requests, paces, at_once)
        report.fail("the bare relay", measurement.failures)
        return cpu_between(before, cpu_seconds([relay.process.pid]))


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Start the provider; end it with the block."""
    with PipedProcess("bench.streaming.provider") as process:
        try:
            yield Provider(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()


@dataclass(frozen=True)
class Member:
    """A user of the service who has a key for the provider."""

    account: Account
    provider_id: str

    @classmethod
    def register(cls, port: int, provider: Provider) -> "Member":
        """Make one."""
        account = Account(port)
        body = {"name": "Paced", "api_endpoint": f"http://{HOST}:{provider.port}/v1"}
        provider_id = account.call("POST", "/chat/llm-providers", body)["id"]
        key = {"user_id": account.user_id, "provider_id": provider_id, "api_key": "sk-bench-0123456789"}
        account.call("POST", "/chat/user-llm-configs", key)
        return cls(account, provider_id)


@dataclass(frozen=True)
class Exchange:
    """A question in a conversation of its own, and the reply that it will get."""

    member: Member
    conversation_id: str
    pace: Pace

    @property
    def question(self) -> str:
        """Different for each exchange."""
        return f"Question {self.pace.text}: what does the fox do, “exactly”, in {self.conversation_id}?"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and content of what must be stored."""
        return [("user", self.question), ("assistant", self.pace.reply)]

    def request(self, port: int, path: str = NATIVE) -> str:
        """The request that streams the reply, as text. The end of the reply ends the connection."""
        if path == CHAT:
            said = [{"role": "user", "content": self.question}]
            body: dict[str, object] = {"model": f"paced/{self.pace.model}", "messages": said, "stream": True}
            return post_request(port, path, self.member.account.token, body, "Connection: close\r\n")
        body = {
            "conversation_id": self.conversation_id,
            "provider_id": self.member.provider_id,
            "model": self.pace.model,
            "content": self.question,
            "stream": True,
        }
        headers = "Connection: close\r\n"
        return post_request(port, path, self.member.account.token, body, headers)


@dataclass(frozen=True)
class _Begun(Exchange):
    """An exchange in another conversation than its question names."""

    asked: str

    @property
    def question(self) -> str:
        return self.asked


@dataclass(frozen=True)
class Service:
    """One way to deploy. `neighbour` answers everything else: a service of its own, on SQLite the same one."""

    database: Database
    worker_class: str
    server: Gunicorn
    neighbour: Gunicorn
    members: Sequence[Member]

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"{self.database.name}, {self.worker_class}"

    @property
    def has_neighbour(self) -> bool:
        """Whether plain requests go to a service of their own."""
        return self.neighbour is not self.server

    def stream(
        self,
        what: str,
        paces: Sequence[Pace],
        report: Report,
        *,
        path: str = NATIVE,
        at_once: int = 1,
        start_gap_s: float = 0.0,
        finish_s: float = 0.0,
        watch: Watch = lambda event, at, client_pid: None,
    ) -> Streamed:
        """Stream these replies, each in a new conversation, and check them; failures go into the report.

        With CHAT as `path` the service begins the conversations itself.
        `finish_s`: how long the service has for its work after the last stream. `watch` is called with "all running"
        and "first ended", when that was, and the client's process.
        """
        engine = sa.create_engine(self.database.url)
        exchanges = _new_exchanges(self.members, paces)
        if path == NATIVE:
            _create_conversations(engine, exchanges)
        requests = [exchange.request(self.server.port, path) for exchange in exchanges]
        servers, databases = [self.server.process.pid], self.database.server_pids
        before = cpu_seconds(servers), cpu_seconds(databases)
        peer = "service" if path == NATIVE else "provider"
        measurement = run_client(peer, self.server.port, requests, paces, at_once, start_gap_s, watch)
        time.sleep(finish_s)
        after = cpu_seconds(servers), cpu_seconds(databases)
        complaints = _complaints(engine, exchanges if path == NATIVE else _begun(engine, exchanges))
        engine.dispose()
        report.fail(f"{what}, {self.name}", measurement.failures)
        report.fail(f"{what}, {self.name}", Counter(complaints.values()))
        failed = len(complaints.keys() | set(measurement.failed))
        return Streamed(measurement, failed, *map(cpu_between, before, after))


def run_client(
    peer: str,
    port: int,
    requests: Sequence[str],
    paces: Sequence[Pace],
    at_once: int,
    start_gap_s: float = 0.0,
    watch: Watch = lambda event, at, client_pid: None,
) -> StreamMeasurement:
    """Run the client once. Every stream gets a connection of its own."""
    order = {
        "peer": peer,
        "host": HOST,
        "port": port,
        "requests": requests,
        "models": [pace.model for pace in paces],
        "at_once": at_once,
        "start_gap_s": start_gap_s,
        "limit_s": LIMIT_S,
    }
    with PipedProcess("bench.streaming.stream_client") as client:
        client.stdin.write(json.dumps(order))
        client.stdin.close()
        for line in client.stdout:
            message = json.loads(line)
            if message["event"] == "over":
                return StreamMeasurement(**message["results"])
            watch(message["event"], message["at"], client.pid)
    raise RuntimeError("the stream client failed; its own message stands above")


def question_of(pace: Pace) -> dict[str, object]:
    """The body of a request to the provider itself."""
    return {"model": pace.model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


def _new_exchanges(members: Sequence[Member], paces: Sequence[Pace]) -> list[Exchange]:
    """A new conversation for each reply, distributed evenly over the members."""
    return [Exchange(member, new_id(), pace) for member, pace in zip(cycle(members), paces, strict=False)]


def _create_conversations(engine: sa.Engine, exchanges: Sequence[Exchange]) -> None:
    rows = [
        {"user_id": one.member.account.user_id, "id": one.conversation_id, "title": "A streamed reply"}
        for one in exchanges
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(Conversation), rows)


def _begun(engine: sa.Engine, exchanges: Sequence[Exchange]) -> list[Exchange]:
    """The same in the conversations that the service has begun, found by what was asked."""
    begun: list[Exchange] = []
    with engine.connect() as connection:
        for one in exchanges:
            found = connection.execute(
                sa.select(Message.conversation_id)
                .where(Message.user_id == one.member.account.user_id)
                .where(Message.content == one.question)
            )
            begun.append(_Begun(one.member, found.scalar() or one.conversation_id, one.pace, one.question))
    return begun


def _complaints(engine: sa.Engine, exchanges: Sequence[Exchange]) -> dict[int, str]:
    """What is not stored byte for byte: index of the exchange -> what is wrong. Empty if all is stored."""
    stored: dict[str, list[tuple[str, str]]] = {}
    ids = [exchange.conversation_id for exchange in exchanges]
    with engine.connect() as connection:
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows = connection.execute(
                sa.select(Message.conversation_id, Message.role, Message.content)
                .where(Message.conversation_id.in_(ids[start : start + ROWS_AT_ONCE]))
                .order_by(Message.conversation_id, Message.position)
            )
            for conversation_id, group in groupby(rows, lambda row: row.conversation_id):
                stored[conversation_id] = [(role, content) for _id, role, content in group]
    return {
        index: "question or reply not stored" if len(found) < 2 else "stored differently than it was sent"
        for index, exchange in enumerate(exchanges)
        if (found := stored.get(exchange.conversation_id, [])) != exchange.messages
    }
