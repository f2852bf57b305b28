"""Exports and imports while others write: each is whole, and none keeps another one from ending well."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import orjson
import pytest
from flask import Flask

from chat_api.database.session import db
from chat_api.errors import NotFound
from chat_api.messages import active_path
from chat_api.operations.erasure import erase_account
from chat_api.transfer import conversation_importer, export_queries, exporter, service
from chat_api.transfer.file_importer import FileImporter
from chat_api.transfer.formats.ndjson import read_export
from chat_api.transfer.import_report import ImportReport
from chat_api.transfer.importer import Importer
from chat_api.transfer.records import Fault, Record
from tests.support.api import Api
from tests.support.tables import owned_rows, path_in_tables
from tests.transfer.exports import (
    Line,
    conversation,
    exported,
    file_of,
    imported,
    message,
    provider,
    rows_of,
    whole,
)

EXPORTS = 8


@contextmanager
def repeating(*actions: Callable[[int], object]) -> Iterator[None]:
    """Each action again and again, in a thread of its own, with a number that counts up."""
    ended = threading.Event()

    def run(action: Callable[[int], object]) -> None:
        number = 0
        while not ended.is_set():
            action(number)
            number += 1

    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(run, action) for action in actions]
        try:
            yield
        finally:
            ended.set()
        for each in running:
            each.result()


def test_export_of_an_account_that_changes_can_be_imported(
    app: Flask, ada: Api, make_user: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_queries, "PAGE_ROWS", 3)  # so that much happens between two of them
    conversations = [ada.conversation()["id"] for _ in range(4)]
    for conversation_id in conversations:
        for number in range(6):
            ada.attachment(ada.message(conversation_id, str(number))["id"])

    def messages(number: int) -> list[Line]:
        path = f"/chat/conversations/{conversations[number % 4]}/messages?branch=all&limit=50"
        found: list[Line] = ada.get(path).get_json()
        return found

    def append(number: int) -> None:
        said = ada.message(conversations[number % 4], f"said {number}")["id"]
        body = {"message_id": said, "file_type": "image/png", "file_path": "uploads/a.png"}
        ada.post("/chat/attachments", body)  # refused where it has been deleted since

    def branch(number: int) -> None:
        found = messages(number)
        if found:
            parent_id = found[number % len(found)]["id"]
            body = {
                "conversation_id": conversations[number % 4],
                "role": "user",
                "content": "b",
                "parent_id": parent_id,
            }
            ada.post("/chat/messages", body)  # refused where it has been deleted

    def delete(number: int) -> None:
        found = messages(number)
        if len(found) > 12:
            ada.delete(f"/chat/messages/{found[number % len(found)]['id']}")

    def move(number: int) -> None:
        found = messages(number)
        if found:
            leaf = found[number % len(found)]["id"]
            ada.patch(f"/chat/conversations/{conversations[number % 4]}", {"active_leaf_id": leaf})

    taken: list[list[Line]] = []
    with repeating(append, branch, delete, move):
        # until something has changed
        while len(taken) < EXPORTS or len({len(lines) for lines in taken}) == 1:
            taken.append(exported(ada))
    for lines in taken:
        user = make_user()
        report = imported(user, b"".join(orjson.dumps(line) + b"\n" for line in lines))
        assert not report["errors"]
        assert report["conversations"]["imported"] == len(conversations)
        for conversation_id in conversations:
            path_in_tables(app, user.user_id, conversation_id)
        kinds = [line["type"] for line in lines]
        rows = rows_of(app, user.user_id)
        assert [len(rows[f"{kind}s"]) for kind in ("message", "attachment")] == [
            kinds.count(kind) for kind in ("message", "attachment")
        ]


def test_same_file_twice_at_the_same_time_is_stored_once(app: Flask, ada: Api) -> None:
    talks = [whole(3) for _ in range(30)]
    content = file_of(provider(), *(line for talk in talks for line in talk))
    barrier = threading.Barrier(2)

    def run(_: int) -> dict[str, int]:
        barrier.wait(10)
        report = imported(ada, content)
        assert not report["errors"]
        counts: dict[str, int] = report["conversations"]
        return counts

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first["imported"] + second["imported"] == 30
    assert first["imported"] + first["unchanged"] == second["imported"] + second["unchanged"] == 30
    rows = owned_rows(app, ada.user_id)
    assert (rows["conversations"], rows["messages"], rows["llm_providers"]) == (30, 90, 1)
    for talk in talks:
        assert len(path_in_tables(app, ada.user_id, talk[0]["id"])) == 3


@pytest.mark.parametrize("batch_rows", [1, 500])
def test_large_conversation_that_comes_up_meanwhile_stays_as_it_is(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """It is looked for when its first batch is full, and stored later: somebody else may come in between."""
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", batch_rows)
    first = conversation()
    content = file_of(first, message(first, 1), *whole(1))

    def records() -> Iterator[Record | Fault]:
        for record in read_export(io.BytesIO(content), max_line_bytes=10**6):
            yield record
            if isinstance(record, Record) and record.fields["id"] == first["id"]:
                imported(ada, file_of({**first, "title": "First"}, message(first, 1, content="First")))

    report = ImportReport()
    with app.app_context():
        files = FileImporter(user_id=ada.user_id, report=report)
        importer = Importer(user_id=ada.user_id, report=report, files=files, one_by_one=True)
        for _ in importer.restore(records()):
            db.session.commit()
    assert (report.imported["conversation"], report.unchanged["conversation"]) == (1, 1)
    assert ada.get(f"/chat/conversations/{first['id']}").get_json()["title"] == "First"
    [said] = ada.get(f"/chat/conversations/{first['id']}/messages").get_json()
    assert said["content"] == "First"


def commit_all(steps: Iterator[object]) -> None:
    for _ in steps:
        db.session.commit()


def test_user_who_is_deleted_meanwhile_gets_nothing_more(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 1)
    content = file_of(provider(), *(line for _ in range(9) for line in whole(1)))
    with app.app_context():
        _, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
        for _ in range(2):  # the provider and the first conversation
            next(steps)
            db.session.commit()
        for _ in erase_account(user_id=ada.user_id):
            db.session.commit()
        with pytest.raises(NotFound):
            commit_all(steps)  # what was being stored already was deleted with the account
        db.session.rollback()
        _, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
        with pytest.raises(NotFound):
            next(steps)
    assert not any(rows_of(app, ada.user_id).values())


def test_export_of_a_user_who_is_deleted_meanwhile_ends(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "CHUNK_BYTES", 1)
    monkeypatch.setattr(export_queries, "PAGE_ROWS", 1)
    imported(ada, file_of(*whole(3), *whole(3)))
    with app.app_context():
        chunks = service.export_all(ada.user_id)
        lines = [next(chunks) for _ in range(4)]
        for _ in erase_account(user_id=ada.user_id):
            db.session.commit()
        lines += chunks
    kinds = [orjson.loads(line)["type"] for line in lines if line]
    assert kinds[-1] == "end"
    assert kinds.count("message") < 6
    with app.app_context(), pytest.raises(NotFound):
        next(service.export_all(ada.user_id))


def test_what_a_killed_import_leaves_is_seen_by_nobody_and_replaced_by_the_next(
    only_user: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, app = only_user, only_user.app
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 2)
    talk = whole(9)
    content = file_of(*talk)
    for steps_before in (1, 3, 5):
        with app.app_context():
            _, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
            for _ in range(steps_before):
                next(steps)
                db.session.commit()
            del steps
        assert owned_rows(app, ada.user_id)["messages"] > 0
        assert ada.get("/chat/conversations").get_json() == []
        assert ada.get(f"/chat/messages/{talk[1]['id']}").status_code == 404
        assert ada.get(f"/chat/conversations/{talk[0]['id']}/messages").status_code == 404
        assert "message" not in {line["type"] for line in exported(ada)}
    assert app.test_cli_runner().invoke(args=["purge"]).exit_code == 0
    assert owned_rows(app, ada.user_id)["messages"] > 0  # the import may still be running
    report = imported(ada, content)
    assert (report["errors"], report["messages"]["imported"]) == ([], 9)
    assert len(path_in_tables(app, ada.user_id, talk[0]["id"])) == 9


def test_import_that_another_one_overtakes_is_refused(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 2)
    talk = whole(9)
    content = file_of(*talk)
    with app.app_context():
        report, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
        next(steps)
        db.session.commit()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(imported, ada, content)
            if db.engine.dialect.name == "postgresql":
                assert not other.result()["errors"]
            for _ in steps:
                db.session.commit()
            assert not other.result()["errors"]
    assert len(path_in_tables(app, ada.user_id, talk[0]["id"])) == 9
    assert report.imported["conversation"] + report.failed["conversation"] == 1


def test_import_that_another_one_overtakes_at_any_step_is_refused(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only its path is left to be moved; and nothing else of its file is lost."""
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 2)
    monkeypatch.setattr(active_path, "LONGEST_MOVE", 2)
    monkeypatch.setattr(service, "with_rests", iter)  # which would keep the other one from writing
    overtaken_at = 0
    while True:
        talk = whole(9)
        talk[0] |= {"active_leaf_id": talk[3]["id"], "last_position": 9}
        content = file_of(*talk, *whole(1))
        with app.app_context():
            report, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
            for number, _ in enumerate(steps):
                db.session.commit()
                if number == overtaken_at:
                    with app.app_context():
                        other, others = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
                        for _ in others:
                            db.session.commit()
                        assert not other.errors
        path = path_in_tables(app, ada.user_id, talk[0]["id"])
        assert path == [line["id"] for line in talk[1:4]], overtaken_at
        if not report.failed["conversation"]:
            break  # it was whole before the other one began
        assert [error["detail"] for error in report.errors] == [conversation_importer.CLASHES]
        overtaken_at += 1
    assert overtaken_at > 6
