"""The previous release beside this one on one database, while it is upgraded: nothing is lost, doubled or refused.

The previous release is taken from the history of the repository and runs with the packages of this one, and with those
that only it needed.
"""

import io
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from chat_api.operations.service import known_revisions
from tests.live.client import PATIENCE_S, SETTINGS, Answer, wait_until
from tests.live.streams import Chat
from tests.support.postgres import create_database, drop_database
from tests.support.provider import Pause, ScriptedProvider, openai_stream
from tests.support.server import REPOSITORY, GunicornServer

pytestmark = pytest.mark.nightly

# the release that is upgraded from: schema 0006
PREVIOUS_RELEASE = "d6a85c8"
ITS_OWN_PACKAGES = ["limits==5.8.0"]
USERS = 4
STEP_S = 3.0  # of traffic, in each state of the fleet
MOMENT = "2026-11-23T09:30:00.123456Z"
# conversations of 1,000 messages, as schema 0006 has them
FILL = """
    WITH users AS (INSERT INTO users (id, email, role, created_at)
        SELECT gen_random_uuid(), 'filled-' || n || '@example.org', 'user', now() FROM generate_series(1, {count}) n
        RETURNING id),
    conversations AS (INSERT INTO conversations (user_id, id, title, message_count, last_position, active_leaf_id,
            created_at, updated_at)
        SELECT id, gen_random_uuid(), 'Filled', 1000, 1000, gen_random_uuid(), now(), now() FROM users
        RETURNING user_id, id, active_leaf_id)
    INSERT INTO messages (user_id, id, conversation_id, position, on_path, role, content, size_bytes,
            attachment_count, created_at, parent_id)
    SELECT user_id, CASE WHEN n = 1000 THEN active_leaf_id ELSE md5(id::text || n)::uuid END, id, n, true, 'user',
        'filling', 7, 0, now(), CASE WHEN n > 1 THEN md5(id::text || (n - 1))::uuid END
    FROM conversations, generate_series(1, 1000) n
"""


@pytest.fixture(scope="module")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the code of the previous release."""
    git = ["git", "-C", str(REPOSITORY)]
    if subprocess.run(
        [*git, "cat-file", "-e", f"{PREVIOUS_RELEASE}^{{commit}}"], capture_output=True
    ).returncode:
        pytest.skip(f"The history does not have {PREVIOUS_RELEASE}: a shallow clone, or no repository.")
    folder = tmp_path_factory.mktemp("previous")
    archive = subprocess.run([*git, "archive", PREVIOUS_RELEASE], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    subprocess.run([*install, *ITS_OWN_PACKAGES], check=True)
    return folder


@dataclass
class Traffic:
    """Users who go on writing and searching, each request at any of the servers."""

    servers: list[GunicornServer]
    chats: list[Chat] = field(default_factory=list)
    acknowledged: dict[str, dict[str, str]] = field(default_factory=dict)  # conversation: message id: content
    responses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    obeys_readiness: bool = False  # like a balancer that looks at /readyz, here before each request
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ends: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._live, args=(chat,)) for chat in self.chats]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join(PATIENCE_S)

    def flow(self) -> None:
        """Let some time pass, and at least so many messages be written as matter, however busy the machine is."""
        before = self.responses[201]
        time.sleep(STEP_S)
        wait_until(
            lambda: self.responses[201] > before + 60 or bool(self.problems), what="messages are written"
        )

    def _live(self, chat: Chat) -> None:
        actions = (self._post, self._complete, self._post_during_reply, self._search)
        while not self._ends.is_set():
            try:
                random.choice(actions)(chat)
            except Exception as error:
                self.problems.append(repr(error))
            time.sleep(0.02)

    def _post(self, chat: Chat) -> None:
        content, key = f"word{uuid.uuid4().hex}", uuid.uuid4().hex
        body = {"conversation_id": chat.conversation_id, "role": "user", "content": content}
        answer = self._send(chat, "POST", "/chat/messages", body, key)
        self._acknowledge(chat, answer.body["id"], content)
        again = self._send(chat, "POST", "/chat/messages", body, key)
        if again.body["id"] != answer.body["id"]:
            self.problems.append("A request that was repeated was done again.")

    def _complete(self, chat: Chat) -> None:
        content, key = f"word{uuid.uuid4().hex}", uuid.uuid4().hex
        answer = self._send(chat, "POST", "/chat/completions", chat.body(content), key)
        again = self._send(chat, "POST", "/chat/completions", chat.body(content), key)
        if again.body["id"] != answer.body["id"]:
            self.problems.append("A reply that was asked for again was written again.")
        if answer.body["status"] != "completed":
            self.problems.append(f"A reply ended as {answer.body}")
        self._acknowledge(chat, answer.body["parent_id"], content)
        self._acknowledge(chat, answer.body["message"]["id"], answer.body["message"]["content"])

    def _post_during_reply(self, chat: Chat) -> None:
        """At another server, perhaps, than the one that writes the reply."""
        replying = threading.Thread(target=self._complete, args=(chat,))
        replying.start()
        time.sleep(0.1)
        self._post(chat)
        replying.join(PATIENCE_S)

    def _search(self, chat: Chat) -> None:
        self._send(chat, "GET", "/chat/search?q=hello")

    def _send(self, chat: Chat, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Send a request until it is not 503; anything else that fails is a problem."""
        while True:
            headers = {"Idempotency-Key": key} if key else None
            server = random.choice(self.ready_servers())
            answer = Answer(*server.request(method, path, body, token=chat.token, headers=headers))
            with self._lock:
                self.responses[answer.status] += 1
            if answer.status < 300:
                return answer
            is_moving = answer.status == 409 and "retry" in answer.body["detail"]
            if not is_moving and (answer.status != 503 or not answer.headers["Retry-After"]):
                raise AssertionError(f"{method} {path}: {answer.status} {answer.body}")
            time.sleep(0.1)

    def ready_servers(self) -> list[GunicornServer]:
        """Those that get requests."""
        if not self.obeys_readiness:
            return self.servers
        ready = [server for server in self.servers if is_ready(server)]
        assert ready, "No server is ready."
        return ready

    def _acknowledge(self, chat: Chat, message_id: str, content: str) -> None:
        with self._lock:
            self.acknowledged.setdefault(chat.conversation_id, {})[message_id] = content


def is_ready(server: GunicornServer) -> bool:
    return server.request("GET", "/readyz")[0] == 200


def settings(url: str) -> dict[str, str]:
    """Of both releases: they share the database and the secrets."""
    return {**SETTINGS, "DATABASE_URL": url, "APP_ENV": "development", "WEB_CONCURRENCY": "1",
            "JWT_SECRET_KEY": uuid.uuid4().hex * 2, "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "ACCESS_TOKEN_MINUTES": "600", "DATABASE_WAIT_S": "10"}  # fmt: skip


@pytest.fixture
def slow_provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        provider.script(openai_stream("Hello", Pause(0.2), " there"))
        yield provider


def users_of(server: GunicornServer, provider: ScriptedProvider) -> list[Chat]:
    return [Chat(server, provider) for _ in range(USERS)]


def require_whole(traffic: Traffic, server: GunicornServer) -> None:
    """All that was acknowledged is there once and found, and each conversation goes on."""
    assert traffic.problems == []
    assert set(traffic.responses) <= {200, 201, 409}, "Nothing was refused."
    assert traffic.responses[201] > 50
    require_found(traffic, server)  # before anything is repaired
    server.run_flask("doctor", "--repair")
    server.run_flask("doctor")  # fails where it finds something
    for chat in traffic.chats:
        chat.server = server
        found = chat.messages(chat.conversation_id)
        contents = {message["id"]: message["content"] for message in found}
        assert len(contents) == len(found)
        assert contents == traffic.acknowledged[chat.conversation_id]
        assert [message["position"] for message in found] == list(range(1, len(found) + 1))
        assert [message["parent_id"] for message in found][1:] == [message["id"] for message in found][:-1]
        answer = chat.post("/chat/completions", chat.body("And now?"))
        assert (answer.status, answer.body["status"]) == (201, "completed")


def require_found(traffic: Traffic, server: GunicornServer) -> None:
    """Searches find what was written, by whichever release and before or after the upgrade."""
    for chat in traffic.chats:
        chat.server = server
        wait_until(partial(is_indexed, chat), what="all is indexed")
        for message_id, content in list(traffic.acknowledged[chat.conversation_id].items())[::3]:
            if content.startswith("word"):
                hits = chat.get(f"/chat/search?q={content}").body
                assert [hit["message"]["id"] for hit in hits] == [message_id]


def is_indexed(chat: Chat) -> bool:
    return "Search-Index" not in chat.get("/chat/search?q=hello").headers


@pytest.mark.nightly
@pytest.mark.parametrize("messages", [5000, pytest.param(200_000, marks=pytest.mark.timeout(1800))])
@pytest.mark.timeout(300)
def test_one_machine_after_the_other_is_upgraded(
    previous_release: Path, slow_provider: ScriptedProvider, messages: int
) -> None:
    name = f"rolling_{uuid.uuid4().hex[:12]}"
    environment = settings(create_database(name))
    try:
        with ExitStack() as stack:
            old = stack.enter_context(GunicornServer(environment, repository=previous_release))
            with psycopg.connect(environment["DATABASE_URL"].replace("+psycopg", "")) as connection:
                connection.execute(FILL.format(count=messages // 1000).encode())
            traffic = Traffic([old], users_of(old, slow_provider))
            new = GunicornServer(environment, migrate=False)
            with traffic.running():
                traffic.flow()
                new.run_flask("db", "upgrade")
                traffic.flow()
                stack.enter_context(new)
                traffic.servers.append(new)
                traffic.flow()
                traffic.flow()
                assert new.request("GET", "/readyz")[0] == 200
                traffic.servers.remove(old)
                time.sleep(1)  # for what it has begun
                old.terminate()
                traffic.flow()
            require_whole(traffic, new)
            assert new.log.count('"level":"error"') == 0
    finally:
        drop_database(name)


@pytest.mark.timeout(300)
def test_on_sqlite_the_service_stops_and_starts(
    previous_release: Path, slow_provider: ScriptedProvider, tmp_path: Path
) -> None:
    environment = settings(f"sqlite:///{tmp_path / 'chat.db'}")
    with GunicornServer(environment, repository=previous_release) as old:
        before = Traffic([old], users_of(old, slow_provider))
        with before.running():
            before.flow()
        old.terminate()
    with GunicornServer(environment) as new:
        for chat in before.chats:
            chat.server = new
        after = Traffic([new], before.chats, before.acknowledged, problems=before.problems)
        with after.running():
            after.flow()
        require_whole(after, new)


# -- from this release to the next ------------------------------------------------------------------------------

NEXT_REVISION = """
\"\"\"What a release to come may add.\"\"\"

import sqlalchemy as sa

from migrations import steps

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    steps.add_column("conversations", sa.Column("mood", sa.String(20), nullable=False, server_default="calm"))
    steps.add_column("messages", sa.Column("mood", sa.String(20)))


def downgrade() -> None:
    steps.drop_column("messages", "mood")
    steps.drop_column("conversations", "mood")
"""


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A folder with the code of this release and one migration more."""
    folder = tmp_path / "next"
    for name in ("chat_api", "migrations"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config.py", "wsgi.py", "gunicorn.conf.py"):
        shutil.copy(REPOSITORY / name, folder)
    before = known_revisions()[0]
    revision = f"{int(before) + 1:04}"
    (folder / "migrations" / "versions" / f"{revision}_mood.py").write_text(
        NEXT_REVISION.format(revision=revision, before=before).lstrip()
    )
    return folder


@pytest.mark.timeout(300)
def test_a_balancer_that_obeys_readyz_has_a_server_at_every_moment(
    next_release: Path, slow_provider: ScriptedProvider
) -> None:
    """This release is ready on its own schema and the next, the next one only on its own."""
    name = f"rolling_{uuid.uuid4().hex[:12]}"
    environment = settings(create_database(name))
    try:
        with ExitStack() as stack:
            old = stack.enter_context(GunicornServer(environment))
            traffic = Traffic([old], users_of(old, slow_provider), obeys_readiness=True)
            # started too early, which must do no harm
            new = stack.enter_context(GunicornServer(environment, migrate=False, repository=next_release))
            traffic.servers.append(new)
            with traffic.running():
                traffic.flow()
                assert [is_ready(old), is_ready(new)] == [True, False]
                assert new.request("POST", "/auth/login", traffic.chats[0].credentials)[0] == 503
                new.run_flask("db", "upgrade")
                wait_until(lambda: is_ready(new), what="the next release is ready")
                assert is_ready(old), "Until it is replaced it is needed."
                traffic.flow()
                traffic.servers.remove(old)
                time.sleep(1)  # for what it has begun
                old.terminate()
                traffic.flow()
            assert traffic.responses[503] == 0
            require_whole(traffic, new)
    finally:
        drop_database(name)
