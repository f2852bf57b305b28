"""What the live tests share: people who use the running service, its workers one by one, raw HTTP, polling."""

import http.client
import json as json_module
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from tests.conftest import migrate
from tests.support.api import PASSWORD, new_email
from tests.support.server import GunicornServer

Result = TypeVar("Result")
# generous where a test isn't about the limit; few connections, because several servers share one Postgres
SETTINGS = {
    "LOGIN_LIMIT_PER_ADDRESS": "1000000 per hour",
    "REGISTER_LIMIT_PER_ADDRESS": "1000000 per hour",
    "DATABASE_POOL_SIZE": "4",
}
PATIENCE_S = 60.0  # for what has no promised time: a slow machine may take it
CONNECTION_LOST = (OSError, http.client.HTTPException)


@contextmanager
def serving(settings: Mapping[str, str] | None = None) -> Iterator[GunicornServer]:
    """A server of a test's own on a fresh database: SQLite, or the empty Postgres of its DATABASE_URL."""
    server = GunicornServer(SETTINGS | dict(settings or {}), migrate=False)
    folder = Path(server.environment["DATA_DIR"])
    # here rather than by a command: most of its time goes into starting Python
    migrate(server.environment.get("DATABASE_URL") or f"sqlite:///{folder / 'chat.db'}", folder)
    with server:
        yield server


def all_workers(server: GunicornServer) -> list[int]:
    """The process ids of the workers, as soon as all are there: /healthz answers when the first one is."""
    count = int(server.environment["WEB_CONCURRENCY"])
    return wait_until(
        lambda: len(pids := server.worker_pids()) == count and pids, what="all workers are there"
    )


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any


class Person:
    """A user of the running service, logged in."""

    def __init__(self, server: GunicornServer, *, email: str | None = None, password: str = PASSWORD) -> None:
        self.server = server
        self.email = email or new_email()
        self.password = password
        self.user = self._made("/auth/register", {"email": self.email, "password": password})
        self.token = ""
        self.refresh_token = ""
        self.log_in()

    def log_in(self) -> None:
        """Begin a new login and use its tokens from now on."""
        status, _, pair = self.server.request("POST", "/auth/login", self.credentials)
        assert status == 200, pair
        self.token, self.refresh_token = pair["access_token"], pair["refresh_token"]

    @property
    def credentials(self) -> dict[str, str]:
        return {"email": self.email, "password": self.password}

    def get(self, path: str) -> Answer:
        return Answer(*self.server.request("GET", path, token=self.token))

    def post(self, path: str, json: Any, key: str | None = None) -> Answer:
        """POST, with an Idempotency-Key if there is one."""
        headers = {"Idempotency-Key": key} if key else None
        return Answer(*self.server.request("POST", path, json, token=self.token, headers=headers))

    def patch(self, path: str, json: Any) -> Answer:
        return Answer(*self.server.request("PATCH", path, json, token=self.token))

    def delete(self, path: str) -> Answer:
        return Answer(*self.server.request("DELETE", path, token=self.token))

    def conversation(self) -> str:
        """Begin a conversation; its id."""
        return self._made("/chat/conversations", {"user_id": self.user["id"], "title": "Live"})["id"]

    def say(self, conversation_id: str, content: str, key: str | None = None, **fields: Any) -> Answer:
        """Post a message; `fields` are more of it than the usual ones."""
        body = {"conversation_id": conversation_id, "role": "user", "content": content, **fields}
        return self.post("/chat/messages", body, key)

    def messages(self, conversation_id: str, limit: int = 1000) -> list[dict[str, Any]]:
        """All messages of a conversation, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["position"] if found else 0
            answer = self.get(f"/chat/conversations/{conversation_id}/messages?limit={limit}&after={after}")
            assert answer.status == 200, answer
            if not answer.body:
                return found
            found += answer.body

    def _made(self, path: str, json: dict[str, Any]) -> Any:
        answer = Answer(*self.server.request("POST", path, json, token=getattr(self, "token", None)))
        assert answer.status == 201, answer
        return answer.body


class Line:
    """One kept connection to one worker."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request; the connection must stay the same, or it may reach another worker."""
        response = self.begin(method, path, json, token, headers)
        content = response.read()
        return Answer(response.status, response.headers, json_module.loads(content) if content else None)

    def begin(
        self,
        method: str,
        path: str,
        json: Any = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send one request; the answer's body may still be written."""
        fields = dict(headers or {})
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        body = None
        if json is not None:
            body, fields["Content-Type"] = json_module.dumps(json).encode(), "application/json"
        had_socket = self._connection.sock
        self._connection.request(method, path, body, fields)
        assert had_socket is None or self._connection.sock is had_socket
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


def _stop_all_but(chosen: int, workers: list[int]) -> None:
    for pid in workers:
        os.kill(pid, signal.SIGCONT if pid == chosen else signal.SIGSTOP)
    others = [psutil.Process(pid) for pid in workers if pid != chosen]
    wait_until(lambda: all(other.status() == psutil.STATUS_STOPPED for other in others))


@contextmanager
def line_to_each_worker(server: GunicornServer) -> Iterator[list[Line]]:
    """A connection to each worker: the others are stopped while it is opened, so no other can have taken it."""
    workers = all_workers(server)
    lines: list[Line] = []
    try:
        for chosen in workers:
            _stop_all_but(chosen, workers)
            line = Line(server.port)
            lines.append(line)
            assert line.request("GET", "/healthz").status == 200
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        yield lines
    finally:
        for pid in workers:
            if psutil.pid_exists(pid):  # a test may have killed it
                os.kill(pid, signal.SIGCONT)
        for line in lines:
            line.close()


def at_once(actions: Iterable[Callable[[], Result]]) -> list[Result]:
    """Do all of it at the same moment, each in a thread; the results in the same order."""
    waiting = list(actions)
    barrier = threading.Barrier(len(waiting))

    def run(action: Callable[[], Result]) -> Result:
        barrier.wait(PATIENCE_S)
        return action()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(run, waiting))


def wait_until(condition: Callable[[], Any], *, within_s: float = PATIENCE_S, what: str = "") -> Any:
    """Poll until the condition is true; its value. Fails when the time is over."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or condition}"
        time.sleep(0.02)
    return value


def send_raw(port: int, *parts: bytes, timeout_s: float = PATIENCE_S) -> Answer:
    """Send bytes as they are and read the answer, while the connection's own side stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        for part in parts:
            connection.sendall(part)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """One answer from a socket."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    content = response.read()
    is_json = response.headers.get_content_subtype() in ("json", "problem+json")
    return Answer(response.status, response.headers, json_module.loads(content) if is_json else content)


def assert_problem(answer: Answer, status: int) -> None:
    """The answer is an error in the API's one shape."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["status"] == status
    assert answer.body["request_id"] == answer.headers["X-Request-ID"]
    assert answer.body["code"]


def assert_unavailable(answer: Answer) -> None:
    """503 as promised: problem+json with Retry-After."""
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1


def assert_tells_that_it_closes(server: GunicornServer) -> None:
    """An answer after which the server closes the connection says so, whatever it left of the request's body."""
    for rest in ([b"x" * 200_000], [b"30d40\r\n" + b"x" * 200_000 + b"\r\n", b"0\r\n\r\n"]):
        length = b"Transfer-Encoding: chunked" if len(rest) > 1 else b"Content-Length: 200000"
        head = b"POST /chat/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head + length + b"\r\n\r\n" + b"".join(rest))
            answer = read_answer(connection)
            assert answer.status == 401, answer
            assert answer.headers["Connection"] == "close"
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
        for _ in range(2):  # a short body is skipped, and the connection stays
            client.request("POST", "/chat/messages", b"x" * 1000, {"Content-Type": "application/json"})
            response = client.getresponse()
            assert (response.status, response.headers["Connection"]) == (401, "keep-alive")
            response.read()
