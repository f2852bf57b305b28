"""How gunicorn is set up: limits, orderly and disorderly ends, refusals that never reach the application."""

import os
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from chat_api.attachments.slots import MAX_DOWNLOADS, MAX_UPLOADS
from chat_api.auth.passwords import MAX_WAITING as MAX_HASHING
from chat_api.completions.preparing import MAX_PREPARING
from chat_api.server.listening import documentation_url
from tests.live.client import (
    SETTINGS,
    Answer,
    Person,
    all_workers,
    assert_problem,
    assert_tells_that_it_closes,
    assert_unavailable,
    read_answer,
    send_raw,
    serving,
    wait_until,
)
from tests.support.server import REPOSITORY, GunicornServer

BODY_LIMIT = 50_000


@pytest.fixture(scope="module")
def server() -> Iterator[GunicornServer]:
    """One worker with few threads and a small limit for bodies."""
    with serving({"THREADS": "4", "MAX_BODY_BYTES": str(BODY_LIMIT)}) as running:
        yield running


# -- the values -----------------------------------------------------------------------------------------


@pytest.fixture
def load_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Read gunicorn.conf.py in an environment of only these variables."""

    def load(**environment: str) -> dict[str, Any]:
        for name in [name for name in os.environ if name.isupper() and name != "PATH"]:
            monkeypatch.delenv(name)
        for name, value in ({"DATA_DIR": str(tmp_path)} | environment).items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(REPOSITORY / "gunicorn.conf.py"))

    return load


def test_the_settings_are_these(load_settings: Callable[..., dict[str, Any]]) -> None:
    settings = load_settings()
    expected = {
        "bind": "127.0.0.1:8000",
        "workers": 1,  # SQLite has one writer
        "threads": 304,  # THREADS, MAX_STREAMS, uploads, downloads, prepared files, passwords
        "timeout": 60,
        "graceful_timeout": 30,
        "keepalive": 75,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "forwarded_allow_ips": "127.0.0.1,::1",
        "control_socket_disable": True,
    }
    assert {name: settings[name] for name in expected} == expected
    assert settings["worker_connections"] > settings["threads"]
    assert settings["worker_class"].__name__ == "Worker"
    assert not settings.get("preload_app"), "connections and threads must not be made before the fork"


def test_the_settings_follow_the_environment(load_settings: Callable[..., dict[str, Any]]) -> None:
    settings = load_settings(
        HOST="::1",
        PORT="9000",
        WEB_CONCURRENCY="5",
        THREADS="3",
        MAX_STREAMS="4",
        GRACEFUL_TIMEOUT_S="7",
        KEEPALIVE_S="2",
        FORWARDED_ALLOW_IPS="10.0.0.1",
    )
    names = ("bind", "workers", "threads", "graceful_timeout", "keepalive", "forwarded_allow_ips")
    assert [settings[name] for name in names] == [
        "[::1]:9000",
        5,
        7 + MAX_UPLOADS + MAX_DOWNLOADS + MAX_PREPARING + MAX_HASHING,
        7,
        2,
        "10.0.0.1",
    ]


def test_postgres_gets_a_worker_for_each_core(load_settings: Callable[..., dict[str, Any]]) -> None:
    assert load_settings(DATABASE_URL="postgresql://nobody@127.0.0.1/none")["workers"] == os.cpu_count()


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        ({}, ["JWT_SECRET_KEY", "ENCRYPTION_KEYS"]),
        (
            {"JWT_SECRET_KEY": "weak-secret", "ENCRYPTION_KEYS": "no-fernet-key"},
            ["JWT_SECRET_KEY", "ENCRYPTION_KEYS"],
        ),
        ({"JWT_SECRET_KEY": "o3Vb_iXWc5u5BOw4yqTtLZsNrGMe9Qa7"}, ["ENCRYPTION_KEYS"]),
    ],
)
def test_production_does_not_start_without_strong_secrets(
    secrets: dict[str, str], named: list[str], tmp_path: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "APP_ENV": "production",
        "DATA_DIR": str(tmp_path),
        "PORT": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=REPOSITORY,
        env=environment | secrets,
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = result.stdout + result.stderr
    assert result.returncode != 0
    for name in ("JWT_SECRET_KEY", "ENCRYPTION_KEYS"):
        assert (f"setting {name}: " in output) == (name in named)
    assert not any(value in output for value in secrets.values())
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir()), "production makes no secrets of its own"


# -- the end --------------------------------------------------------------------------------------------


def test_sigterm_lets_a_running_request_end_and_the_process_exit() -> None:
    with serving({"GRACEFUL_TIMEOUT_S": "20"}) as server, ThreadPoolExecutor() as pool:
        person = Person(server)
        conversation_id = person.conversation()
        with closing(
            sqlite3.connect(Path(server.environment["DATA_DIR"]) / "chat.db", isolation_level=None)
        ) as lock:
            lock.execute("BEGIN IMMEDIATE")
            running = pool.submit(person.say, conversation_id, "still running")
            worker = psutil.Process(server.worker_pids()[0])
            wait_until(lambda: len(worker.net_connections("tcp")) >= 3, what="the request has arrived")
            time.sleep(0.2)  # it is accepted; nothing tells when it waits for the lock
            started = time.monotonic()
            stopping = pool.submit(server.terminate)
            wait_until(lambda: refuses_connections(server.port), what="it accepts nothing more")
            assert not running.done()
            lock.execute("ROLLBACK")
        answer = running.result()
        assert answer.status == 201
        assert stopping.result() == 0
        assert time.monotonic() - started < 20
        server.start()
        assert [message["content"] for message in person.messages(conversation_id)] == ["still running"]


def test_sigterm_waits_for_a_stuck_client_no_longer_than_the_graceful_timeout() -> None:
    with serving({"GRACEFUL_TIMEOUT_S": "2"}) as server, ExitStack() as stack:
        stuck, _silent = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(2)
        )
        stuck.sendall(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        stuck.sendall(b"Content-Type: application/json\r\n\r\n{")
        time.sleep(0.2)  # the worker waits for the rest of the body
        started = time.monotonic()
        server.terminate()
        assert time.monotonic() - started < 10


def test_a_killed_master_leaves_no_worker_and_a_free_port() -> None:
    with serving({"WEB_CONCURRENCY": "2"}) as server:
        assert server.request("GET", "/healthz")[0] == 200
        all_workers(server)
        workers = server.kill_master_only()
        assert len(workers) == 2
        wait_until(lambda: refuses_connections(server.port), within_s=2)
        with socket.socket() as newcomer:
            newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            newcomer.bind(("127.0.0.1", server.port))
        wait_until(lambda: not any(is_running(pid) for pid in workers), within_s=2)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refuses_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        try:
            probe.connect(("127.0.0.1", port))
        except OSError:
            return True
    return False


# -- clients that behave badly --------------------------------------------------------------------------


def test_clients_that_do_not_close_their_side_do_not_delay_the_next_one(server: GunicornServer) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            lazy = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            lazy.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_answer(lazy).status == 200
        started = time.monotonic()
        assert send_raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
        assert time.monotonic() - started < 0.5


def test_clients_that_say_nothing_do_not_delay_the_next_one(server: GunicornServer) -> None:
    with ExitStack() as stack:
        for _ in range(20):  # more than there are threads
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        started = time.monotonic()
        assert send_raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
        assert time.monotonic() - started < 0.5


HEAD = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}no end of the chunk", 400),
        (HEAD + b"Transfer-Encoding: unheard-of\r\n\r\n", 501),
    ],
)
def test_malformed_http_is_refused_as_problem_json(
    server: GunicornServer, request_bytes: bytes, status: int
) -> None:
    assert_problem(send_raw(server.port, request_bytes), status)


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(server: GunicornServer) -> None:
    assert_problem(send_raw(server.port, HEAD + b"Content-Length: 100000000\r\n\r\n", b'{"email": "'), 413)


def test_a_body_beyond_the_limit_is_refused_when_its_length_was_not_announced(server: GunicornServer) -> None:
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    answer = send_raw(server.port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 6)
    assert_problem(answer, 413)


def test_an_answer_says_that_its_connection_closes(server: GunicornServer) -> None:
    assert_tells_that_it_closes(server)


def test_a_body_of_just_the_limit_is_read(server: GunicornServer) -> None:
    body = b'{"email": "' + b"x" * (BODY_LIMIT - 13) + b'"}'
    answer = send_raw(server.port, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert_problem(answer, 400)
    assert "email" in answer.body["errors"]


def test_a_refused_body_does_not_end_the_service_for_others(server: GunicornServer) -> None:
    """A client that goes on sending is drained without a thread of its own."""
    flood = b"x" * 65536

    def send_endlessly() -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            try:
                connection.sendall(HEAD + b"Content-Length: 100000000\r\n\r\n")
                for _ in range(1000):
                    connection.sendall(flood)
            except OSError:
                pass  # cut off, as it should be

    threads = [threading.Thread(target=send_endlessly) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert send_raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
    for thread in threads:
        thread.join()


# -- what the operator sees -----------------------------------------------------------------------------


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def run_make(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `make` with the programs of this environment."""
    stamp = ".venv/.requirements"  # -o: as if it were there, so that nothing is installed
    return subprocess.run(
        ["make", "-o", stamp, *arguments, f"BIN={Path(sys.executable).parent}"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "FLASK_SKIP_DOTENV": "1", "DATA_DIR": str(folder / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_run_on_a_taken_port_says_so_in_a_sentence(taken_port: int, tmp_path: Path) -> None:
    result = run_make("run", f"PORT={taken_port}", folder=tmp_path)
    assert result.returncode == 2
    assert (
        f"\nError: Port {taken_port} on 127.0.0.1 is in use: stop the process that listens there, or set PORT to "
        f"another one, as in `PORT={taken_port + 1} make run`.\n"
    ) in "\n" + result.stderr
    assert "Traceback" not in result.stderr
    assert "Retrying" not in result.stdout
    assert "connection to" not in result.stdout  # gunicorn's own words, after each of its tries


def test_gunicorn_on_a_taken_port_ends_without_waiting(taken_port: int, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "PORT": str(taken_port)}
    # the first sleep of its retries would end the process with another message
    code = "import time, gunicorn.sock as s; s.time.sleep = exit; from gunicorn.app.wsgiapp import run; run()"
    result = subprocess.run(
        [sys.executable, "-c", code, "wsgi:app"],
        cwd=REPOSITORY,
        env=environment | {"FLASK_SKIP_DOTENV": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: Port {taken_port} on 127.0.0.1 is in use: ")
    assert result.stderr.count("\n") == 1


def test_make_demo_provider_on_a_taken_port_names_the_variable(taken_port: int, tmp_path: Path) -> None:
    result = run_make("demo-provider", f"DEMO_PORT={taken_port}", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: Port {taken_port} on 127.0.0.1 is in use: ")
    assert "DEMO_PORT" in result.stderr.splitlines()[0]


def test_make_demo_without_a_service_says_what_to_do(tmp_path: Path) -> None:
    result = run_make("demo", "BASE_URL=http://127.0.0.1:1", folder=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == (
        "No service answers at http://127.0.0.1:1: start it with `make run` in another terminal, or name another "
        "address, as in `make demo BASE_URL=http://127.0.0.1:8001`."
    )


def test_a_host_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    result = run_make("run", "HOST=no-host.invalid", "PORT=20999", folder=tmp_path)
    assert "Error: Can't listen on HOST no-host.invalid, PORT 20999: " in result.stderr
    assert "Traceback" not in result.stderr


def test_the_log_says_where_the_documentation_is(server: GunicornServer) -> None:
    url = f"http://127.0.0.1:{server.port}/docs"
    assert f'"message":"The API\'s documentation is at {url}"' in server.log
    assert server.request("GET", "/docs")[0] in (200, 308)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("0.0.0.0", 8000), "http://127.0.0.1:8000/docs"),
        (("::", 8000, 0, 0), "http://[::1]:8000/docs"),
        (("10.0.0.1", 80), "http://10.0.0.1:80/docs"),
    ],
)
def test_the_address_is_one_that_a_browser_can_open(address: tuple[Any, ...], url: str) -> None:
    assert documentation_url(address) == url


def test_an_upgrade_of_gunicorn_inherits_the_port(tmp_path: Path) -> None:
    """On USR2 a second master takes over the socket, which is in use all the time."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    log = tmp_path / "log"
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data"), "PORT": str(port)}
    with log.open("wb") as file:
        master = subprocess.Popen(  # not `python -m gunicorn`, which can't start itself again
            [Path(sys.executable).parent / "gunicorn", "wsgi:app"],
            cwd=REPOSITORY,
            env=environment | {"FLASK_SKIP_DOTENV": "1"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        for workers in (1, 2):
            wait_until(lambda count=workers: log.read_text().count("Booting worker") >= count)  # type: ignore[misc]
            if workers == 1:
                master.send_signal(signal.SIGUSR2)
        assert "is in use" not in log.read_text()
    finally:
        os.killpg(master.pid, signal.SIGKILL)
        master.wait()


@pytest.mark.parametrize("origin", ["environment", ".env"])
def test_a_misspelt_setting_is_named_at_the_start(origin: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    variables = {"DATA_DIR": str(tmp_path / "data"), "MAX_STREAM": "5", "PORT": "http"}
    if origin == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    else:
        environment |= variables
    command = [sys.executable, "-m", "gunicorn", "--config", str(REPOSITORY / "gunicorn.conf.py"), "wsgi:app"]
    # a wrong setting in the same place shows that it is read; with a right one it starts
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (
        os.EX_CONFIG,
        "Error: setting PORT: Not a valid integer.\n",
    )
    with socket.create_server(("127.0.0.1", 0)) as other:  # it ends soon after it began
        port = str(other.getsockname()[1])
        result = subprocess.run(
            command, cwd=tmp_path, env=environment | {"PORT": port}, capture_output=True, text=True
        )
    assert result.returncode == 1
    assert '"MAX_STREAM is not a setting; did you mean MAX_STREAMS?"' in result.stdout


def test_readyz_is_503_until_the_database_is_migrated() -> None:
    with GunicornServer(SETTINGS, migrate=False) as server:
        assert server.request("GET", "/healthz")[0] == 200
        assert_unavailable(Answer(*server.request("GET", "/readyz")))
        server.run_flask("db", "upgrade")
        status, _, body = server.request("GET", "/readyz")
        assert (status, body) == (200, {"status": "ok"})
