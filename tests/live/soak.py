"""An endurance run (`make soak`): mixed load with faults, and afterwards everything is where it was.

Workers are killed and reloaded, Postgres is killed and started again, clients are slow, hang up and cancel. Every
acknowledged message has to be there at the end, no response may be an error that the faults don't explain, and what
the workers hold (memory, descriptors, threads, connections, write-ahead log) may not grow from one calm stretch of load
to the next.
"""

import argparse
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.live.client import CONNECTION_LOST, PATIENCE_S, all_workers, serving, wait_until
from tests.live.streams import Chat, new_key, query, words
from tests.support.postgres import PrivatePostgres
from tests.support.provider import ScriptedProvider, openai_stream
from tests.support.server import GunicornServer

SETTINGS = {
    "WEB_CONCURRENCY": "2",
    "THREADS": "8",
    "KEEPALIVE_S": "1",
    "ACCESS_TOKEN_MINUTES": "600",
    "DATABASE_WAIT_S": "2",
    "MAX_STREAMS_PER_USER": "100",
}
EXPLAINED = 503  # the only error of the server that a fault may cause
FAULT_EVERY_S = 4.0
MAX_GROWTH = {"memory in MiB": 24, "descriptors": 8, "threads": 8, "connections": 4, "WAL in MiB": 32}


@dataclass
class Run:
    """One endurance run against one server."""

    server: GunicornServer
    chats: list[Chat]
    cluster: PrivatePostgres | None
    acknowledged: dict[str, str] = field(default_factory=dict)  # message id: content
    responses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, status: int, what: str, body: object = None) -> None:
        """Note a response; one that no fault explains is a problem."""
        with self._lock:
            self.responses[status] += 1
            if status >= 500 and status != EXPLAINED:
                self.problems.append(f"{what}: {status} {str(body)[:300]}")

    def acknowledge(self, message_id: str, content: str) -> None:
        """Note a message that the service has to keep."""
        with self._lock:
            self.acknowledged[message_id] = content


# -- the load -------------------------------------------------------------------------------------------------


def write(run: Run, chat: Chat) -> None:
    """Post a message with an Idempotency-Key, as often as it takes."""
    key, content = new_key(), f"message {new_key()} of the endurance run"
    for _ in range(100):
        try:
            answer = chat.say(chat.conversation_id, content, key)
        except CONNECTION_LOST:
            time.sleep(0.05)
            continue
        run.check(answer.status, "POST /chat/messages", answer.body)
        if answer.status == 201:
            return run.acknowledge(answer.body["id"], content)
        time.sleep(0.05)


def read(run: Run, chat: Chat) -> None:
    """Read lists, a search and an export."""
    for path in (
        "/chat/conversations",
        f"/chat/conversations/{chat.conversation_id}/messages?limit=50",
        "/chat/search?q=endurance&limit=20",
        "/auth/me",
        "/readyz",
    ):
        answer = chat.get(path)
        run.check(answer.status, f"GET {path}", answer.body)


def stream(run: Run, chat: Chat) -> None:
    """Request a reply; read it to its end, hang up in the middle of it, or cancel it."""
    chat.script(openai_stream(*words(20), pause_s=0.02))
    conversation_id = chat.conversation()
    with chat.stream(conversation_id=conversation_id) as reply:
        run.check(reply.status, "POST /chat/completions")
        if reply.status != 200:
            return
        reply.read_events(3)
        choice = random.random()
        if choice < 0.3:
            answer = chat.cancel(reply.completion_id)
            run.check(answer.status, "cancel", answer.body)
        elif choice < 0.7:
            end = reply.read_to_end()
            if end.name == "completion.completed":
                message = end.content["completion"]["message"]
                run.acknowledge(message["id"], message["content"])


def log_in(run: Run, chat: Chat) -> None:
    """Log in, which hashes a password."""
    status, _, body = chat.server.request("POST", "/auth/login", chat.credentials)
    run.check(status, "POST /auth/login", body)
    time.sleep(0.3)


def dawdle(run: Run, chat: Chat) -> None:
    """Send half a request, wait, and leave."""
    with socket.create_connection(("127.0.0.1", chat.server.port), timeout=PATIENCE_S) as slow:
        slow.sendall(b"POST /chat/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(random.random())


LOAD: list[Callable[[Run, Chat], None]] = [write, write, read, stream, stream, log_in, dawdle]


@contextmanager
def load(run: Run) -> Iterator[None]:
    """Everybody does what they do, again and again, during the block."""
    ended = threading.Event()

    def go_on(step: Callable[[Run, Chat], None], chat: Chat) -> None:
        while not ended.is_set():
            try:
                step(run, chat)
            except CONNECTION_LOST:
                time.sleep(0.05)  # a worker was killed
            except AssertionError as error:  # the setting up of a step was refused, or its stream cut off
                if " 500" in str(error):
                    run.problems.append(f"{step.__name__}: {str(error)[:300]}")

    threads = [
        threading.Thread(target=go_on, args=pair, daemon=True) for pair in zip(LOAD, run.chats, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(PATIENCE_S)
            if thread.is_alive():
                run.problems.append("A client waits for ever.")


# -- faults ---------------------------------------------------------------------------------------------------


def do_harm(run: Run, seconds: float) -> None:
    """One fault after the other, for so long."""
    faults: list[Callable[[Run], None]] = [kill_worker, reload]
    if run.cluster is not None:
        faults.append(restart_database)
    ends_at, number = time.monotonic() + seconds, 0
    while (left_s := ends_at - time.monotonic()) > 0:
        time.sleep(min(FAULT_EVERY_S, left_s) / 2)
        fault = faults[number % len(faults)]
        fault(run)
        run.faults[fault.__name__] += 1
        number += 1
        time.sleep(min(FAULT_EVERY_S, left_s) / 2)


def kill_worker(run: Run) -> None:
    if run.server.worker_pids():
        run.server.kill_worker()


def reload(run: Run) -> None:
    os.kill(run.server.pid, signal.SIGHUP)


def restart_database(run: Run) -> None:
    assert run.cluster is not None
    run.cluster.kill()
    run.cluster.start()


# -- what is held ---------------------------------------------------------------------------------------------


def holdings(run: Run) -> dict[str, float]:
    """What the workers and the database hold, when nobody does anything."""
    wait_until(lambda: not query(run.server, "SELECT id FROM completions WHERE status = 'in_progress'"))
    time.sleep(2.5)  # KEEPALIVE_S, and the connections that the server closes last
    workers = [psutil.Process(pid) for pid in all_workers(run.server)]
    found: dict[str, float] = {
        "memory in MiB": sum(worker.memory_info().rss for worker in workers) / 2**20,
        "descriptors": sum(worker.num_fds() for worker in workers),
        "threads": sum(worker.num_threads() for worker in workers),
    }
    if run.cluster is not None:
        counted = query(
            run.server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chat-api'"
        )
        found["connections"] = counted[0][0]
    else:
        found["WAL in MiB"] = Path(run.server.environment["DATA_DIR"], "chat.db-wal").stat().st_size / 2**20
    return found


def check_holdings(run: Run, before: dict[str, float], after: dict[str, float]) -> None:
    """Compare two calm moments of the same workers."""
    for name, value in after.items():
        if value > before[name] + MAX_GROWTH[name]:
            run.problems.append(f"{name} grew from {before[name]:.0f} to {value:.0f}.")


def check_messages(run: Run) -> None:
    """Every acknowledged message is there, once, with its content."""
    stored = {str(id_): content for id_, content in query(run.server, "SELECT id, content FROM messages")}
    lost = [id_ for id_, content in run.acknowledged.items() if stored.get(id_) != content]
    if lost:
        run.problems.append(
            f"{len(lost)} of {len(run.acknowledged)} acknowledged messages are lost: {lost[:5]}"
        )
    contents = [content for content in stored.values() if content.startswith("message ")]
    if len(set(contents)) != len(contents):
        run.problems.append("A message is there twice.")


def unexplained(log: str) -> list[str]:
    """The lines of a log that no fault explains: errors of requests that nobody expected, and bare tracebacks."""
    return [
        line
        for line in log.splitlines()
        if line.startswith("Traceback ")
        or ('"level":"error"' in line and '"logger":"chat_api.errors"' in line)
    ]


# -- the run --------------------------------------------------------------------------------------------------


def soak(database: str, seconds: float) -> Run:
    """Run for about so long on "sqlite" or "postgres"; what was found."""
    with ExitStack() as stack:
        provider = stack.enter_context(ScriptedProvider())
        settings = dict(SETTINGS)
        cluster = None
        if database == "postgres":
            cluster = stack.enter_context(PrivatePostgres())
            settings["DATABASE_URL"] = cluster.url
        server = stack.enter_context(serving(settings))
        run = Run(server, [Chat(server, provider) for _ in LOAD], cluster)
        with load(run):
            do_harm(run, seconds * 0.5)
        wait_until(lambda: server.request("GET", "/readyz")[0] == 200, what="the service is ready again")
        with load(run):  # warms up the workers that the faults have left
            time.sleep(seconds * 0.2)
        before = holdings(run)
        with load(run):
            time.sleep(seconds * 0.3)
        after = holdings(run)
        check_holdings(run, before, after)
        check_messages(run)
        run.problems += [f"log: {line[:300]}" for line in unexplained(server.log)[:5]]
        print(
            f"{database}: {sum(run.responses.values())} responses {dict(run.responses)}, faults {dict(run.faults)}"
        )
        print(f"{database}: {len(run.acknowledged)} messages; {_rounded(before)} then {_rounded(after)}")
        return run


def _rounded(held: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in held.items())


def main() -> None:
    """Run on both databases, half the time on each; the exit status says whether there were problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of load in all (default: 600)")
    parser.add_argument("--database", choices=["sqlite", "postgres"], action="append")
    options = parser.parse_args()
    databases = options.database or ["sqlite", "postgres"]
    problems = [
        f"{database}: {problem}"
        for database in databases
        for problem in soak(database, options.seconds / len(databases)).problems
    ]
    print("\n".join(problems) or "No problems.")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
