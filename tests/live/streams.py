"""What the live tests of completions share: a user who talks to a provider, and streams read event by event."""

import itertools
import json as json_module
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from tests.live.client import CONNECTION_LOST, Answer, Line, Person
from tests.support.provider import Answer as Scripted
from tests.support.provider import Received, ScriptedProvider
from tests.support.server import GunicornServer

DELTA, REASONING = "completion.delta", "completion.reasoning"
_numbers = itertools.count(1)


def words(count: int) -> list[str]:
    """Pieces of a text in which every piece differs, with characters of one to four bytes and line breaks."""
    return [f"wörd {number} ✓🙂\n" for number in range(count)]


class Event(NamedTuple):
    """A server-sent event."""

    id: int
    name: str
    content: dict[str, Any]


class Stream:
    """A reply as one client reads it: an iterator of events. Use it as a context manager; leaving hangs up."""

    def __init__(
        self,
        line: Line,
        method: str,
        path: str,
        *,
        token: str,
        json: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.line = line
        self.events: list[Event] = []
        self._response = line.begin(method, path, json, token, headers)
        self.status, self.headers = self._response.status, self._response.headers
        if self.status == 200:
            assert self.headers.get_content_type() == "text/event-stream"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def __iter__(self) -> Iterator[Event]:
        """Each event as soon as it is there, to the end of the connection."""
        for event in events_in(self._lines()):
            self.events.append(event)
            yield event

    @property
    def text(self) -> str:
        """What the deltas add up to so far."""
        return text_of(self.events)

    @property
    def last_id(self) -> int:
        """The id of the last event so far."""
        return self.events[-1].id

    @property
    def completion_id(self) -> str:
        """Of a stream that was read from its beginning."""
        assert self.events[0].name == "completion.started"
        return str(self.events[0].content["completion"]["id"])

    def read_events(self, count: int) -> Self:
        """Read so many events more, or fewer where the stream ends before."""
        for _ in itertools.islice(self, count):
            pass
        return self

    def read_text(self, length: int) -> Self:
        """Read until at least so many characters of text have come in all."""
        while len(self.text) < length:
            assert next(iter(self)).name in ("completion.started", DELTA, REASONING)
        return self

    def read_to_end(self) -> Event:
        """Read the rest; the event that says how it ended, behind which nothing comes."""
        for _ in self:
            pass
        last = self.events[-1]
        assert last.name.split(".")[1] in ("completed", "incomplete", "failed", "cancelled"), last
        return last

    def is_broken(self) -> bool:
        """Read the rest: whether the connection ended without an event that says how the reply ended."""
        try:
            self.read_to_end()
        except (AssertionError, *CONNECTION_LOST):
            return True
        return False

    def hang_up(self) -> None:
        """Close the connection, wherever it is."""
        self._response.close()
        self.line.close()

    def _lines(self) -> Iterator[bytes]:
        return iter(self._response.readline, b"")


def events_in(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream; comments are skipped."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode().removesuffix("\n")
        if not text and "data" in fields:
            content = json_module.loads(fields["data"])
            assert content.pop("type") == fields["event"]
            yield Event(int(fields["id"]), fields["event"], content)
            fields = {}
        elif text and not text.startswith(":"):
            name, _, value = text.partition(": ")
            fields[name] = value


def text_of(events: Iterable[Event]) -> str:
    """What the deltas add up to."""
    return "".join(event.content["delta"] for event in events if event.name == DELTA)


class Chat(Person):
    """A user with a conversation, a provider, and a model there that nobody else asks."""

    def __init__(
        self, server: GunicornServer, provider: ScriptedProvider, *, api_key: str = "sk-0123456789abcdef"
    ) -> None:
        super().__init__(server)
        self.provider = provider
        self.model = f"model-{next(_numbers)}"
        body = {"name": "Scripted", "api_endpoint": provider.url}
        self.provider_id = self._made("/chat/llm-providers", body)["id"]
        config = {"user_id": self.user["id"], "provider_id": self.provider_id, "api_key": api_key}
        self._made("/chat/user-llm-configs", config)
        self.conversation_id = self.conversation()

    def script(self, *answers: Scripted) -> None:
        """What the provider answers to this user."""
        self.provider.script(*answers, model=self.model)

    @property
    def asked(self) -> list[Received]:
        """What came to the provider from this user."""
        return self.provider.of_model(self.model)

    def at_provider(self, count: int = 1) -> Received:
        """This user's request to the provider, as soon as it is there."""
        return self.provider.wait_for_request(self.model, count)

    def body(self, content: str = "Hello?", **more: Any) -> dict[str, Any]:
        """What asks for a reply."""
        place = {"conversation_id": self.conversation_id, "provider_id": self.provider_id}
        return {**place, "model": self.model, "content": content, **more}

    def stream(self, *, line: Line | None = None, key: str | None = None, **more: Any) -> Stream:
        """Ask for a reply and read it while it is written; on a connection of its own, or on this one."""
        headers = {"Idempotency-Key": key} if key else None
        return self._stream(
            line, "POST", "/chat/completions", json=self.body(stream=True, **more), headers=headers
        )

    def follow(self, completion_id: str, after: int | None = None, *, line: Line | None = None) -> Stream:
        """Read a reply from its beginning, or behind an event."""
        headers = None if after is None else {"Last-Event-ID": str(after)}
        return self._stream(line, "GET", f"/chat/completions/{completion_id}/events", headers=headers)

    def completion(self, completion_id: str) -> dict[str, Any]:
        """The completion as it is shown."""
        answer = self.get(f"/chat/completions/{completion_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    def ended(self, completion_id: str) -> dict[str, Any]:
        """The completion, as soon as it has ended."""
        with self.follow(completion_id) as stream:
            stream.read_to_end()
        return self.completion(completion_id)

    def conversation_goes_on(self) -> None:
        """Another turn is answered, and the provider is told all that came before, each message once."""
        before = self.messages(self.conversation_id)
        self.provider.script(model=self.model)
        answer = self.post("/chat/completions", self.body("And now?"))
        assert (answer.status, answer.body["status"]) == (201, "completed"), answer
        sent = [message["content"] for message in self.asked[-1].json["messages"]]
        said = [message["content"] for message in before if message["content"]] + ["And now?"]
        assert "\n\n".join(sent) == "\n\n".join(said)  # neighbours of one role are sent as one message
        positions = [message["position"] for message in self.messages(self.conversation_id)]
        assert positions == list(range(1, len(before) + 3))

    def replies(self) -> list[dict[str, Any]]:
        """The provider's messages in the conversation."""
        return [m for m in self.messages(self.conversation_id) if m["role"] == "assistant"]

    def cancel(self, completion_id: str, line: Line | None = None) -> Answer:
        path = f"/chat/completions/{completion_id}/cancel"
        if line is None:
            return Answer(*self.server.request("POST", path, token=self.token))
        return line.request("POST", path, token=self.token)

    def _stream(self, line: Line | None, method: str, path: str, **options: Any) -> Stream:
        return Stream(line or Line(self.server.port), method, path, token=self.token, **options)


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return str(uuid.uuid4())


def assert_read_once(events: list[Event], text: str) -> None:
    """The deltas are exactly the text, and every id is the place behind its event."""
    assert text_of(events) == text
    ids = [event.id for event in events]
    assert ids == sorted(set(ids)), "ids count up"


def query(server: GunicornServer, statement: str, **parameters: Any) -> list[Any]:
    """Ask the server's database itself; a statement that changes something is committed."""
    folder = server.environment["DATA_DIR"]
    engine = sa.create_engine(
        server.environment.get("DATABASE_URL") or f"sqlite:///{folder}/chat.db", poolclass=sa.NullPool
    )
    with engine.begin() as connection:
        found = connection.execute(sa.text(statement), parameters)
        return list(found) if found.returns_rows else []
