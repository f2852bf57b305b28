"""`flask doctor`: names what does not agree, changes nothing unless it is told to, and repairs it then."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from cryptography.fernet import Fernet
from flask import Flask

from chat_api import keyring
from chat_api.database.session import db
from chat_api.keyring import Keyring
from chat_api.operations import doctor
from tests.completions.chat import run_sql
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.cli import run_flask
from tests.support.tables import begin_elsewhere, fresh_database, path_in_tables

Break = Callable[["Patient"], Any]


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """A database of the test's own: the doctor looks at all users."""
    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path) as application:
        yield application


@dataclass
class Patient:
    """A user with a conversation of three messages and a branch, and an attachment."""

    app: Flask
    user: Api
    conversation_id: str
    message_ids: list[str]
    provider_id: str

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        values = {name: value for name, value in values.items() if f":{name}" in statement}
        return run_sql(self.app, statement, **values)

    def conversation(self, assignments: str, **values: Any) -> None:
        self.sql(f"UPDATE conversations SET {assignments} WHERE id = :id", id=self.conversation_id, **values)

    def without_keys(self, statement: str, **values: Any) -> None:
        """As with a tool that does not check foreign keys."""
        is_sqlite = db_is_sqlite(self.app)
        off = "PRAGMA foreign_keys = OFF" if is_sqlite else "SET session_replication_role = replica"
        on = "PRAGMA foreign_keys = ON" if is_sqlite else "SET session_replication_role = DEFAULT"
        with self.app.app_context(), db.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if is_sqlite:
                driver.execute(off)
            else:
                connection.execute(sa.text(off))
            connection.execute(sa.text(statement), values)
            connection.commit()
            if is_sqlite:
                driver.execute(on)
            else:
                connection.execute(sa.text(on))
                connection.commit()


def db_is_sqlite(app: Flask) -> bool:
    return app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite")


def make_patient(app: Flask) -> Patient:
    user = Api(
        app, user=Api(app).made("/auth/register", {"email": new_email(), "password": PASSWORD})
    ).log_in()
    conversation_id = user.conversation()["id"]
    ids = [user.message(conversation_id, f"apple {number}")["id"] for number in range(3)]
    ids.append(user.message(conversation_id, "apple branch", parent_id=ids[0])["id"])
    for _ in range(2):
        user.attachment(ids[0])
    provider_id = user.provider()["id"]
    user.config(provider_id)
    return Patient(app, user, conversation_id, ids, provider_id)


@pytest.fixture
def patient(app: Flask) -> Patient:
    return make_patient(app)


def examine(app: Flask, *arguments: str) -> Result:
    return run_flask(lambda: app, "doctor", *arguments)


def findings(app: Flask, *arguments: str) -> dict[str, Any]:
    """What was found of each kind, and repaired; kinds without a finding are left out."""
    result = examine(app, "--json", *arguments)
    body = result.output[: result.output.rindex("}") + 1]
    found = {kind: finding for kind, finding in json.loads(body).items() if finding["found"]}
    assert result.exit_code == (1 if any(one["found"] > one["repaired"] for one in found.values()) else 0)
    return {kind: (finding["found"], finding["repaired"]) for kind, finding in found.items()}


def mark_another(patient: Patient) -> None:
    patient.sql("UPDATE messages SET on_path = true WHERE id = :id", id=patient.message_ids[1])


def parent_gone(patient: Patient) -> None:
    patient.sql(
        "UPDATE messages SET parent_id = :gone WHERE id = :id",
        gone=str(uuid.uuid4()),
        id=patient.message_ids[2],
    )


def words_gone(patient: Patient) -> None:
    patient.sql("DELETE FROM message_terms WHERE message_id = :id", id=patient.message_ids[2])


def conversation_gone(patient: Patient) -> None:
    patient.without_keys("DELETE FROM conversations WHERE id = :id", id=patient.conversation_id)


def message_gone(patient: Patient) -> None:
    patient.without_keys("DELETE FROM messages WHERE id = :id", id=patient.message_ids[1])


def worker_gone(patient: Patient) -> None:
    message = {"conversation_id": patient.conversation_id, "id": patient.message_ids[-1]}
    begin_elsewhere(patient.app, patient.user.user_id, message, patient.provider_id)
    patient.sql("UPDATE completions SET lease_expires_at = '2026-01-01T00:00:00.000000Z'")


BREAKS: dict[str, tuple[Break, dict[str, int]]] = {
    "position behind": (lambda patient: patient.conversation("last_position = 2"), {"last_position": 1}),
    "count": (lambda patient: patient.conversation("message_count = 7"), {"message_count": 1}),
    "length": (lambda patient: patient.conversation("path_length = 7"), {"path_length": 1}),
    "bytes": (lambda patient: patient.conversation("content_bytes = 7"), {"content_bytes": 1}),
    "leaf nowhere": (
        lambda patient: patient.conversation("active_leaf_id = :leaf", leaf=str(uuid.uuid4())),
        {"active_path": 1},
    ),
    "leaf null": (lambda patient: patient.conversation("active_leaf_id = NULL"), {"active_path": 1}),
    "mark": (mark_another, {"active_path": 1}),
    "parent": (parent_gone, {"active_path": 1}),
    "attachments": (
        lambda patient: patient.sql(
            "UPDATE messages SET attachment_count = 1 WHERE id = :id", id=patient.message_ids[0]
        ),
        {"attachment_count": 1},
    ),
    "words": (words_gone, {"search_missing": 1}),
    "conversation": (conversation_gone, {"orphans": 4}),
    "message": (message_gone, {"orphans": 1, "message_count": 1, "active_path": 1, "content_bytes": 1}),
    "worker": (worker_gone, {"completions": 1}),
}


@pytest.mark.parametrize("name", BREAKS)
def test_it_names_what_is_broken_and_repairs_it(patient: Patient, name: str) -> None:
    healthy = make_patient(patient.app)
    assert findings(patient.app) == {}
    break_it, expected = BREAKS[name]
    break_it(patient)
    before = everything(patient.app)
    assert findings(patient.app) == {kind: (count, 0) for kind, count in expected.items()}
    assert everything(patient.app) == before, "Without --repair it changes nothing."
    use(patient)
    if name in ("position behind", "leaf nowhere", "leaf null"):  # the request has repaired it
        assert findings(patient.app) == {}
        break_it(patient)
    found = findings(patient.app, "--repair")
    assert found
    assert all(count == repaired for count, repaired in found.values())
    assert findings(patient.app) == {}
    use(patient)
    if name != "conversation":
        path_in_tables(patient.app, patient.user.user_id, patient.conversation_id)
        searched = patient.user.get("/chat/search?q=apple").get_json()
        [(stored,)] = patient.sql("SELECT count(*) FROM messages WHERE user_id = :id AND content LIKE 'apple%'",
                                  id=patient.user.user_id)  # fmt: skip
        assert len(searched) == stored
    use(healthy)
    assert findings(patient.app) == {}


def use(patient: Patient) -> None:
    """The API answers, without a 5xx."""
    user, conversation_id = patient.user, patient.conversation_id
    for path in (f"/chat/conversations/{conversation_id}", f"/chat/conversations/{conversation_id}/messages",
                 "/chat/search?q=apple", "/chat/export"):  # fmt: skip
        with user.get(path) as response:
            response.get_data()
            assert response.status_code in (200, 404), path
    body = {"conversation_id": conversation_id, "role": "user", "content": "pear"}
    is_there = user.get(f"/chat/conversations/{conversation_id}").status_code == 200
    assert user.post("/chat/messages", body).status_code == (201 if is_there else 404)


def everything(app: Flask) -> dict[str, list[str]]:
    return {table: sorted(map(repr, run_sql(app, f"SELECT * FROM {table}"))) for table in db.metadata.tables}


def test_words_that_fts5_does_not_have_are_given_to_it(patient: Patient, backend: str) -> None:
    if backend != "sqlite":
        pytest.skip("FTS5 is SQLite's")
    for row in patient.sql(
        "SELECT number, replace(terms, ' ', ' ' || substr(user_id, -6)) FROM message_terms"
    ):
        patient.sql("INSERT INTO message_index (message_index, rowid, terms) VALUES ('delete', :number, :terms)",
                    number=row[0], terms=row[1])  # fmt: skip
    assert patient.user.get("/chat/search?q=apple").get_json() == []
    assert findings(patient.app, "--repair") == {"search_missing": (4, 4)}
    assert len(patient.user.get("/chat/search?q=apple").get_json()) == 4
    patient.sql("INSERT INTO message_index (message_index, rank) VALUES ('integrity-check', 1)")


def test_secrets_that_no_key_opens_are_named_and_stay(patient: Patient) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(patient.app.extensions, keyring.EXTENSION, Keyring((Fernet.generate_key().decode(),)))
        assert findings(patient.app, "--repair") == {"secrets": (1, 0)}
    assert findings(patient.app) == {}


def test_a_line_for_each_kind_with_a_few_ids(patient: Patient) -> None:
    patients = [patient, *(make_patient(patient.app) for _ in range(6))]
    for one in patients:
        one.conversation("message_count = 9")
    result = examine(patient.app)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    [line] = [line for line in lines if line.startswith("message_count: ")]
    assert line.startswith("message_count: 7 found, 0 repaired: ")
    assert sum(one.conversation_id in line for one in patients) == 5
    assert [line.split(":")[0] for line in lines[: len(doctor.DESCRIPTIONS)]] == list(doctor.DESCRIPTIONS)
    assert "--repair" in lines[-1]


def test_it_goes_on_after_a_user(patient: Patient) -> None:
    patients = sorted([patient, make_patient(patient.app)], key=lambda one: one.user.user_id)
    for one in patients:
        one.conversation("message_count = 9")
    assert findings(patient.app, "--repair", "--after", patients[0].user.user_id) == {"message_count": (1, 1)}
    assert findings(patient.app) == {"message_count": (1, 0)}


def test_all_is_found_in_batches(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BATCH", 1)
    for break_it in (words_gone, parent_gone, BREAKS["attachments"][0]):
        break_it(patient)
    assert findings(patient.app, "--repair") == {
        "search_missing": (1, 1),
        "active_path": (1, 1),
        "attachment_count": (1, 1),
    }
    assert findings(patient.app) == {}


def test_what_is_imported_or_deleted_just_now_is_no_finding(patient: Patient) -> None:
    patient.conversation("hidden_by = id, message_count = 0")
    assert findings(patient.app) == {}
