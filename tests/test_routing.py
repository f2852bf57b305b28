"""With Citus each request goes to the one node that has its user: read from the SQL that is sent, which needs no Citus.

Each compiled statement is looked at here, and whatever a request of any test sends to Postgres in `conftest.py`. Each
operation has a test of its own (`happy_path`), so a new one is looked at, too.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

import chat_api
from chat_api.conversations.models import Conversation
from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.database.statements import Statement
from chat_api.search import postgres
from chat_api.transfer.service import MANY
from tests.conftest import migrate, serving, user_maker
from tests.support.api import PASSWORD, Api, new_email
from tests.support.citus import citus_extension
from tests.support.routing import MEANT, MEANT_STATEMENTS, Meant, advice, obstacles, sql_on_citus, unmeant
from tests.support.statements_sent import Sent, recorded
from tests.support.tables import fresh_database
from tests.transfer import exports

ON_SQLITE_ONLY = ("search.sqlite.", "search_index.writer._WRITE_NUMBERED")


# -- reading SQL ----------------------------------------------------------------------------------------------

OWN = "user_id = $1 AND id = $2"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM messages WHERE {OWN}",
        "SELECT * FROM messages WHERE messages.user_id = CAST(%(owner)s AS uuid) AND position > %(p)s",
        "SELECT * FROM messages AS m JOIN conversations AS c ON c.user_id = m.user_id AND c.id = m.conversation_id "
        "WHERE c.user_id = $1",
        "SELECT * FROM conversations AS c LEFT JOIN messages AS m ON m.user_id = c.user_id WHERE $1 = c.user_id",
        "SELECT EXISTS (SELECT 1 FROM messages AS m WHERE m.user_id = c.user_id) FROM conversations AS c "
        "WHERE c.user_id = $1",
        f"WITH found AS (SELECT * FROM messages WHERE {OWN}) SELECT * FROM found",
        f"SELECT id FROM messages WHERE {OWN} UNION ALL SELECT id FROM attachments WHERE {OWN}",
        f"UPDATE conversations SET title = $3 WHERE {OWN} RETURNING id",
        "WITH gone AS (DELETE FROM completion_pieces WHERE user_id = $1) "
        f"UPDATE completions SET model = $3 WHERE {OWN}",
        "INSERT INTO messages (user_id, id) VALUES ($1, $2) RETURNING id",
        f"INSERT INTO messages (user_id, id) SELECT user_id, $3 FROM conversations WHERE {OWN}",
        "INSERT INTO throttle_counters (key, count) VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET count = 2",
        "DELETE FROM throttle_counters WHERE key = $1",
        "SELECT * FROM users WHERE email = $1",
        "SELECT id FROM users WHERE id = $1 FOR SHARE",
        "SELECT version_num FROM alembic_version",
        "BEGIN",
    ],
)  # fmt: skip
def test_what_goes_to_one_node(sql: str) -> None:
    assert obstacles(sql) == ()


@pytest.mark.parametrize(
    ("sql", "obstacle"),
    [
        ("SELECT * FROM messages WHERE id = $1", "no equality on messages.user_id"),
        ("SELECT * FROM messages WHERE user_id = $1 OR id = $2", "no equality on messages.user_id"),
        ("SELECT * FROM messages WHERE (user_id = $1 AND id < $2) IS TRUE", "no equality on messages.user_id"),
        ("SELECT * FROM messages WHERE (user_id, id) <= ($1, $2)", "no equality on messages.user_id"),
        ("SELECT * FROM messages WHERE user_id IN ($1, $2)", "no equality on messages.user_id"),
        ("SELECT * FROM (SELECT user_id FROM messages LIMIT 9) AS near WHERE user_id = $1", "no equality on messages"),
        ("SELECT * FROM messages AS m, attachments AS a WHERE m.user_id = $1", "no equality on attachments.user_id"),
        ("SELECT * FROM messages AS m JOIN attachments AS a ON a.user_id = m.user_id", "no equality on messages"),
        ("SELECT id FROM messages WHERE user_id = $1 UNION SELECT id FROM attachments", "no equality on attachments"),
        ("UPDATE completions SET status = $2 WHERE id = $1", "no equality on completions.user_id"),
        ("DELETE FROM throttle_counters WHERE key = $1 OR expires_at < $2", "no equality on throttle_counters.key"),
        ("SELECT id FROM completions WHERE id = $1 FOR SHARE", "no equality on completions.user_id"),
        ("WITH new AS (INSERT INTO messages (user_id, id) VALUES ($1, $2)) SELECT 1", "INSERT INTO messages in a CTE"),
        ("INSERT INTO messages (user_id, id) SELECT $1, $2", "insert them by VALUES"),
        ("INSERT INTO messages (user_id, id) SELECT * FROM unnest($1, $2)", "insert them by VALUES"),
        ("INSERT INTO messages (user_id, id) SELECT user_id, $2 FROM conversations WHERE user_id = $1 RETURNING id",
         "RETURNING"),
        ("INSERT INTO messages (id) VALUES ($1)", "without user_id"),
        ("INSERT INTO users (id) VALUES ($1)", "writes users"),
        ("DELETE FROM revoked_logins WHERE login_id = $1", "writes revoked_logins"),
        ("ANALYZE messages", "ANALYZE"),
    ],
)  # fmt: skip
def test_what_goes_to_all_nodes(sql: str, obstacle: str) -> None:
    assert obstacle in "; ".join(obstacles(sql))


# -- compiled statements --------------------------------------------------------------------------------------


def compiled_statements() -> Iterator[Statement]:
    """All of the service, each once."""
    for found in pkgutil.walk_packages(chat_api.__path__, "chat_api."):
        if not found.name.endswith("_child"):  # which are programs
            importlib.import_module(found.name)
    seen = set()
    for name, module in list(sys.modules.items()):
        for value in list(vars(module).values()) if name.startswith("chat_api.") else ():
            if (
                isinstance(value, Statement)
                and value not in seen
                and not value.name.startswith(ON_SQLITE_ONLY)
            ):
                seen.add(value)
                yield value


STATEMENTS = {statement.name: statement for statement in compiled_statements()}


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - MEANT_STATEMENTS.keys()))
def test_compiled_statement_goes_to_one_node(name: str) -> None:
    found = obstacles(sql_on_citus(STATEMENTS[name]))
    assert not found, f"{name}: {advice(found)}"


@pytest.mark.parametrize("name", MEANT_STATEMENTS)
def test_statement_that_may_go_to_all_nodes_still_does(name: str) -> None:
    assert name in STATEMENTS, f"Take {name} out of MEANT_STATEMENTS: it is gone."
    assert obstacles(sql_on_citus(STATEMENTS[name])), (
        f"Take {name} out of MEANT_STATEMENTS: it goes to one node."
    )


def test_all_compiled_statements_are_looked_at() -> None:
    assert len(STATEMENTS) > 90
    assert {
        "messages.service._TAKE_POSITION",
        "completions.checkpoints._SAVE",
        "auth.throttle._COUNT",
    } <= STATEMENTS.keys()


# -- requests -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def citus_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The service on a Postgres that takes itself for a Citus cluster."""
    folder = tmp_path_factory.mktemp("citus")
    with fresh_database("postgres", folder, migrated=False) as url, citus_extension(url):
        migrate(url, folder)
        with serving(url, folder) as app:
            yield app


def somebody(app: Flask, **fields: str) -> Api:
    user = Api(app, user=Api(app).made("/auth/register", {"email": new_email(), "password": PASSWORD}))
    return user.log_in()


def update_me(user: Api) -> None:
    body = {"current_password": PASSWORD, "password": f"{PASSWORD}!"}
    assert user.patch("/auth/me", body).status_code == 200


def delete_me(user: Api) -> None:
    assert user.delete("/auth/me", json={"current_password": PASSWORD}).status_code == 204


def reuse_a_refresh_token(user: Api) -> None:
    """Somebody has copied it, so its login ends."""
    stolen = Api(user.app, user.refresh_token)
    pair = stolen.post("/auth/refresh").get_json()
    Api(user.app, pair["refresh_token"]).post("/auth/refresh")
    with time_machine.travel(now() + timedelta(seconds=15)):
        assert stolen.post("/auth/refresh").status_code == 401


def shared_provider(user: Api) -> tuple[Api, str]:
    admin = user_maker(user.app)("admin")
    provider = admin.provider(shared=True)["id"]
    user.config(provider)
    return admin, f"/chat/llm-providers/{provider}"


def change_provider(user: Api) -> None:
    admin, path = shared_provider(user)
    assert admin.patch(path, {"api_endpoint": "https://q.example/v1"}).status_code == 200


def delete_provider(user: Api) -> None:
    admin, path = shared_provider(user)
    assert admin.delete(path).status_code == 204


def import_much(user: Api) -> None:
    exports.imported(user, exports.file_of(exports.provider(), *exports.whole(MANY)))


SENDS: dict[str, Callable[[Api], object]] = {
    "auth.register": lambda user: somebody(user.app),
    "account.update_me": update_me,
    "account.delete_me": delete_me,
    "account.log_out": lambda user: user.post("/auth/logout"),
    "auth.refresh": reuse_a_refresh_token,
    "llm-providers.create_provider": lambda user: user.provider(),
    "llm-providers.update_provider": change_provider,
    "llm-providers.delete_provider": delete_provider,
    "transfer.import_all": import_much,
}


@pytest.mark.parametrize("sender", sorted({meant.sender for meant in MEANT}))
def test_request_that_may_go_to_all_nodes_still_does(citus_app: Flask, sender: str) -> None:
    with recorded() as sent:
        SENDS[sender](somebody(citus_app))
    found = {Meant(each.sender, obstacle) for each in sent for obstacle in obstacles(each.sql)}
    expected = {meant for meant in MEANT if meant.sender == sender}
    assert expected <= found, f"Take {expected - found} out of MEANT: {sender} goes to one node."


def test_a_request_that_goes_to_all_nodes_fails_the_test_that_sends_it(
    citus_app: Flask, everything_sent: list[Sent]
) -> None:
    def look_at_everybody() -> str:
        return str(db.session.scalar(sa.select(sa.func.count()).select_from(Conversation)))

    with serving(citus_app.config["SQLALCHEMY_DATABASE_URI"], Path(citus_app.config["DATA_DIR"])) as app:
        app.add_url_rule("/everybody", "everybody", look_at_everybody)
        with recorded() as sent:
            assert Api(app).get("/everybody").status_code == 200
    assert unmeant(sent) == {("everybody", "no equality on conversations.user_id at its level")}
    assert unmeant(everything_sent) == unmeant(sent)
    everything_sent.clear()  # this test meant it


# -- search ---------------------------------------------------------------------------------------------------


CONTENTS = ("red apples", "green apples and pears", "red pears " * 6000 + "quinces", "a red pear")


@pytest.fixture(scope="module")
def searcher(citus_app: Flask) -> Api:
    """A user with messages, of which one is long."""
    user = somebody(citus_app)
    for content in CONTENTS:
        user.message(user.conversation()["id"], content)
    other = somebody(citus_app)
    other.message(other.conversation()["id"], "red apples of somebody else")
    return user


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("red", [3, 2, 0]),
        ('"red apples"', [0]),
        ("apples -red", [1]),
        ("appl*", [1, 0]),
        ("quinces pears", [2]),
        ("nothing", []),
    ],
)
@pytest.mark.parametrize("sort", ["newest", "relevance"])
@pytest.mark.parametrize("near", [400, 1], ids=["near", "by index"])
def test_with_citus_a_search_finds_the_same_at_one_node(
    searcher: Api, monkeypatch: pytest.MonkeyPatch, q: str, found: list[int], sort: str, near: int
) -> None:
    monkeypatch.setattr(postgres, "NEAR", near)
    with recorded() as sent:
        items = searcher.get("/chat/search", query_string={"q": q, "sort": sort}).get_json()
    numbers = [CONTENTS.index(item["message"]["content"]) for item in items]
    assert (numbers if sort == "newest" else sorted(numbers, reverse=True)) == found
    assert {each.sender for each in sent} >= {"search.search_messages"}
    assert not {obstacle for each in sent for obstacle in obstacles(each.sql)}
