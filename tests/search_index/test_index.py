"""The index behind the search: it follows whatever happens to messages, at once and completely."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from chat_api.database import statements
from chat_api.database.columns import new_id
from chat_api.database.parameters import MESSAGE_ID, USER_ID
from chat_api.database.session import db
from chat_api.database.statements import Compiled, Statement
from chat_api.messages import service as messages
from chat_api.messages.models import Message
from chat_api.search import postgres
from chat_api.search_index.writer import rewrite, words_of
from chat_api.users.models import User
from tests.search.test_search import PATH, found, say, search
from tests.support.api import Api
from tests.transfer.exports import conversation, file_of, imported, message


def is_postgres() -> bool:
    return db.engine.dialect.name == "postgresql"


def traces(app: Flask, user: Api) -> tuple[int, int]:
    """How many messages of a user have words, and how many rows the database's own search finds of them."""
    with app.app_context():
        stored = db.session.scalar(
            sa.text("SELECT count(*) FROM message_terms WHERE user_id = :owner"), {"owner": user.user_id}
        )
        if is_postgres():
            sql = f"SELECT count(*) FROM message_terms WHERE terms @@ '''{user.user_id[-6:]}'':*'::tsquery"
        else:
            sql = f"SELECT count(*) FROM message_index WHERE message_index MATCH '\"{user.user_id[-6:]}\" *'"
        return stored or 0, db.session.scalar(sa.text(sql)) or 0


def require_whole_index(app: Flask) -> None:
    """FTS5 compares its index with the words, both ways (SQLite documentation, fts5.html, section 6.4)."""
    with app.app_context():
        if not is_postgres():
            db.session.execute(
                sa.text("INSERT INTO message_index (message_index, rank) VALUES ('integrity-check', 1)")
            )
            db.session.rollback()


# -- what is deleted --------------------------------------------------------------------------------------------


def delete_messages(app: Flask, user: Api, place: str) -> None:
    first = user.get(f"/chat/conversations/{place}/messages").get_json()[0]
    assert user.delete(f"/chat/messages/{first['id']}").status_code == 204


def delete_conversation(app: Flask, user: Api, place: str) -> None:
    assert user.delete(f"/chat/conversations/{place}").status_code == 204


def delete_account(app: Flask, user: Api, place: str) -> None:
    answer = user.delete("/auth/me", json={"current_password": "correct horse battery staple"})
    assert answer.status_code == 204, answer.get_data(as_text=True)


def expire(app: Flask, user: Api, place: str) -> None:
    with app.app_context():
        old = sa.text("UPDATE conversations SET updated_at = '2001-01-01T00:00:00.000000Z' WHERE id = :id")
        db.session.execute(old, {"id": place})
        db.session.commit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.config, "RETENTION_DAYS", 5000)
        assert app.test_cli_runner().invoke(args=["retention"]).exit_code == 0


@pytest.mark.parametrize("remove", [delete_messages, delete_conversation, delete_account, expire])
def test_nothing_stays_of_what_is_deleted(
    app: Flask, ada: Api, bob: Api, remove: Callable[[Flask, Api, str], None]
) -> None:
    say(bob, "apple of bob")
    place = say(ada, "apple one", "apple two")
    assert traces(app, ada) == (2, 2)
    remove(app, ada, place)
    assert traces(app, ada) == (0, 0)
    assert found(bob, "apple") == ["apple of bob"]
    require_whole_index(app)


# -- what is written --------------------------------------------------------------------------------------------


def test_reply_that_is_settled_again_is_found_by_its_new_words(app: Flask, ada: Api) -> None:
    place = say(ada, "a question")
    reply = ada.message(place, "half of the ans", role="assistant")
    with app.app_context(), statements.transaction():
        messages.replace_reply(
            user_id=ada.user_id,
            message_id=reply["id"],
            content="The whole answer",
            words=words_of("The whole answer"),
            status="completed",
            tool_calls=None,
            sources=None,
        )
    assert found(ada, "answer") == ["The whole answer"]
    assert found(ada, "half") == found(ada, "ans") == []
    assert traces(app, ada) == (2, 2)
    require_whole_index(app)


def test_message_that_is_changed_or_deleted_before_its_commit_has_the_words_it_has_then(
    app: Flask, ada: Api
) -> None:
    """Others may do so in a transaction that SQLite commits together with that of the message."""
    place = say(ada, "a question")
    delete = Statement(sa.delete(Message).where(Message.user_id == USER_ID, Message.id == MESSAGE_ID))
    scope: dict[str, Any] = {"user_id": ada.user_id, "conversation_id": place}
    with app.app_context(), statements.transaction():
        append = partial(messages.append_message, **scope, role="user", words=["before"], content="before")
        changed, deleted = append(), append()
        rewrite(**scope, message_id=changed["id"], words=["after"])
        delete.all(user_id=ada.user_id, message_id=deleted["id"])
    assert len(found(ada, "after")) == 1
    assert found(ada, "before") == []
    assert traces(app, ada) == (2, 2)
    require_whole_index(app)


def test_imported_messages_are_found_once(app: Flask, ada: Api) -> None:
    place = conversation()
    lines = [place, message(place, 1, content="Imported apple"), message(place, 2, content="Imported pear")]
    for _ in range(2):
        assert not imported(ada, file_of(*lines))["errors"]
    assert found(ada, "imported") == ["Imported pear", "Imported apple"]
    assert traces(app, ada) == (2, 2)


def test_ids_that_want_the_same_number_stay_quick(app: Flask, ada: Api) -> None:
    """Counted ids have their first 63 bits in common; looking for a free number one by one would take minutes."""
    place = conversation()
    lines = [
        message(place, count, id=f"0190ffff-0000-7000-8000-{count:012x}", content=f"counted {count}")
        for count in range(1, 3001)
    ]
    assert not imported(ada, file_of(place, *lines))["errors"]
    assert traces(app, ada) == (3000, 3000)
    assert found(ada, "2999") == ["counted 2999"]
    require_whole_index(app)


def test_rebuilding_changes_nothing_and_mends_what_is_lost(only_user: Api) -> None:
    app = only_user.app
    say(only_user, "apple one", "apple two")
    place = conversation()
    odd = [
        message(place, number, id=one, content="apple")
        for number, one in enumerate((str(ANY[0]), str(ANY[1])), 1)
    ]
    assert not imported(only_user, file_of(place, *odd))["errors"]
    before = search(only_user, "apple").get_json()
    assert len(before) == 4
    rebuild = app.test_cli_runner().invoke(args=["search", "rebuild"])
    assert "Indexed " in rebuild.output
    assert search(only_user, "apple").get_json() == before
    with app.app_context():
        db.session.execute(
            sa.text("DELETE FROM message_terms WHERE user_id = :owner"), {"owner": only_user.user_id}
        )
        db.session.commit()
    assert found(only_user, "apple") == []
    app.test_cli_runner().invoke(args=["search", "rebuild"])
    assert search(only_user, "apple").get_json() == before
    require_whole_index(app)


ANY = ("00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-fffffffffffe")


def test_index_is_whole_after_all_kinds_of_writing_at_once(app: Flask, ada: Api, bob: Api) -> None:
    failures: list[Any] = []

    def work(user: Api, kind: int) -> None:
        try:
            for round_ in range(4):
                place = say(user, f"apple {kind}", "pear", "apple again")
                user.get(PATH, query_string={"q": "app*"})
                if round_ % 2:
                    user.delete(f"/chat/conversations/{place}")
                else:
                    delete_messages(app, user, place)
                    user.message(place, f"a last apple {kind}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(user, kind)) for kind in range(2) for user in (ada, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for user in (ada, bob):
        assert sorted(found(user, "apple")) == sorted(
            f"a last apple {kind}" for kind in range(2) for _ in range(2)
        )
        assert traces(app, user) == (4, 4)
    require_whole_index(app)


# -- whose ------------------------------------------------------------------------------------------------------


def test_users_whose_ids_end_alike_keep_apart(app: Flask, ada: Api) -> None:
    """Their lexemes are the same."""
    twin_id = new_id()[:-6] + ada.user_id[-6:]
    with app.app_context():
        of_ada = db.session.get(User, ada.user_id)
        assert of_ada is not None
        copied = {column.key: getattr(of_ada, column.key) for column in User.__table__.columns}
        db.session.execute(
            sa.insert(User).values(**copied | {"id": twin_id, "email": f"{twin_id}@example.org"})
        )
        db.session.commit()
    twin = Api(app, user={"email": f"{twin_id}@example.org"}).log_in()
    assert twin.user_id == twin_id
    mine = say(ada, "apple of ada", "pear")
    say(twin, "apple of the twin", "more apple", "apple -x")
    for sort in ("newest", "relevance"):
        assert found(ada, "apple", sort=sort) == ["apple of ada"]
        assert found(ada, "app*", sort=sort) == ["apple of ada"]
        assert found(ada, '"apple of"', sort=sort) == ["apple of ada"]
        assert found(ada, "apple", sort=sort, conversation_id=mine) == ["apple of ada"]
        assert found(twin, "ada", sort=sort) == []
    assert len(found(twin, "apple")) == 3
    assert search(twin, "apple", conversation_id=mine).status_code == 404


# -- how Postgres goes about it -----------------------------------------------------------------------------------


def plan_of(statement: Statement, **parameters: Any) -> str:
    """How Postgres runs a compiled statement once it has stopped to look at the parameters."""
    compiled = Compiled(statement.construct(True), PGDialect_psycopg(paramstyle="numeric_dollar"))
    arguments = ", ".join(
        "'" + str(value).replace("'", "''") + "'" for value in compiled.arguments(parameters)
    )
    with db.engine.connect() as connection:
        connection.detach()  # closed in the end, with what was prepared and set
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"PREPARE asked AS {compiled.sql}")
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN EXECUTE asked ({arguments})").scalars())


# ten thousand messages at once, which have the words of another one
_MULTIPLY = """
    WITH more AS (
        INSERT INTO messages (user_id, id, conversation_id, position, role, content, size_bytes, attachment_count,
            created_at, status, on_path)
        SELECT m.user_id, gen_random_uuid(), m.conversation_id, m.position + number, m.role, m.content, m.size_bytes,
            0, m.created_at, m.status, m.on_path
        FROM messages AS m, generate_series(1, 10000) AS number WHERE m.user_id = :owner
        RETURNING user_id, id
    )
    INSERT INTO message_terms (user_id, message_id, terms)
    SELECT more.user_id, more.id, t.terms FROM more JOIN message_terms AS t ON t.user_id = more.user_id
"""


def test_postgres_needs_no_statistics(only_user: Api) -> None:
    """With so few rows of one user it would most likely think of reading and sorting all of them."""
    with only_user.app.app_context():
        if not is_postgres():
            pytest.skip("SQLite's FTS5 has no plans to choose from")
        say(only_user, " ".join(f"word{number}" for number in range(60)))
        db.session.execute(sa.text(_MULTIPLY), {"owner": only_user.user_id})
        db.session.execute(sa.text("ANALYZE message_terms"))
        db.session.commit()
        given = {"user_id": only_user.user_id, "newest": ANY[1], "oldest": ANY[0], "count": 21, "query": "'a'",
                 "slices": "'a~'", "samples": "'a~'", "words": "'a'"}  # fmt: skip
        batch = plan_of(postgres._BATCH, **given)
        samples, span = plan_of(postgres._SAMPLES, **given), plan_of(postgres._BY_INDEX, **given)
    assert "Index Scan Backward using pk_message_terms" in batch
    assert "Sort" not in batch
    assert "Index Only Scan Backward using pk_message_terms" in samples
    for plan in (samples, span):
        assert "Bitmap Index Scan on ix_message_terms_terms" in plan
        assert "Bitmap Index Scan on pk_message_terms" not in plan
        assert "Seq Scan" not in plan
