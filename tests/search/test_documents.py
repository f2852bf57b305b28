"""Searching in documents: what is uploaded is found by what it says, and by whom, and until when."""

import io
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.files import store, texts
from chat_api.files.models import AttachmentText, StoredFile
from chat_api.search import backlog, documents, extractor
from tests.documents.files import pdf_of
from tests.search.test_search import found, search
from tests.support import alone
from tests.support.api import PASSWORD, Api

ada, app, bob = alone.ada, alone.app, alone.bob  # the fixtures here


def upload(user: Api, content: bytes, name: str, message_id: str | None = None) -> dict[str, Any]:
    form: dict[str, Any] = {"file": (io.BytesIO(content), name)}
    if message_id is not None:
        form["message_id"] = message_id
    response = user.post("/chat/attachments", data=form, content_type="multipart/form-data")
    assert response.status_code == 201, response.get_data(as_text=True)
    made: dict[str, Any] = response.get_json()
    return made


def work(app: Flask) -> None:
    """What the thread of a server does."""
    with app.app_context():
        assert extractor.work_through() is not None


@pytest.fixture
def message(ada: Api) -> dict[str, Any]:
    made: dict[str, Any] = ada.message(ada.conversation()["id"], "Please read this.")
    return made


def test_a_message_is_found_by_what_its_document_says(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    attachment = upload(ada, pdf_of("The tenant pays the rent", "in advance"), "lease.pdf", message["id"])
    assert found(ada, "tenant") == []
    work(app)
    [hit] = search(ada, "tenant").get_json()
    assert hit["message"]["id"] == message["id"]
    assert hit["attachment_id"] == attachment["id"]
    assert hit["file_name"] == "lease.pdf"
    assert [hit["snippet"]["text"][start:end] for start, end in hit["snippet"]["matches"]] == ["tenant"]
    assert search(ada, '"pays the rent"').get_json()[0]["attachment_id"] == attachment["id"]
    assert search(ada, "tenant", sort="relevance").get_json() == [hit]
    assert search(ada, "tenant", conversation_id=message["conversation_id"]).get_json() == [hit]


def test_a_match_in_the_message_itself_names_no_attachment(
    ada: Api, app: Flask, message: dict[str, Any]
) -> None:
    upload(ada, b"Please read on", "notes.txt", message["id"])
    work(app)
    [hit] = search(ada, "please read").get_json()
    assert "attachment_id" not in hit
    assert "file_name" not in hit
    assert hit["snippet"]["text"] == "Please read this."


def test_words_may_be_in_the_message_and_in_its_documents(
    ada: Api, app: Flask, message: dict[str, Any]
) -> None:
    upload(ada, b"one fish", "a.txt", message["id"])
    second = upload(ada, b"two birds and a cow", "b.txt", message["id"])
    work(app)
    assert found(ada, "please fish birds") == ["Please read this."]
    assert search(ada, "birds cow fish").get_json()[0]["attachment_id"] == second["id"]
    assert found(ada, '"this one"') == []
    assert found(ada, '"fish two"') == []
    assert found(ada, "please -birds") == []


def test_others_find_nothing(ada: Api, bob: Api, app: Flask, message: dict[str, Any]) -> None:
    upload(ada, b"a secret recipe", "a.txt", message["id"])
    upload(bob, b"a secret recipe", "b.txt", bob.message(bob.conversation()["id"], "Mine")["id"])
    work(app)
    assert found(bob, "secret") == ["Mine"]
    assert found(ada, "secret") == ["Please read this."]


def test_a_deleted_document_is_not_found(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    attachment = upload(ada, b"a hidden treasure", "a.txt", message["id"])
    upload(ada, b"an old map", "b.txt", message["id"])
    work(app)
    assert found(ada, "treasure map")
    assert ada.delete(f"/chat/attachments/{attachment['id']}").status_code == 204
    assert found(ada, "treasure") == []
    assert found(ada, "please read") == ["Please read this."]
    work(app)
    assert found(ada, "treasure") == []
    assert found(ada, "map") == ["Please read this."]


def test_equal_content_is_found_in_each_message_that_has_it(
    ada: Api, app: Flask, message: dict[str, Any]
) -> None:
    other = ada.message(message["conversation_id"], "Again")
    first = upload(ada, b"the same words", "a.txt", message["id"])
    work(app)
    second = upload(ada, b"the same words", "b.txt", other["id"])
    work(app)
    hits = search(ada, "same").get_json()
    assert [hit["attachment_id"] for hit in hits] == [second["id"], first["id"]]
    assert ada.delete(f"/chat/attachments/{first['id']}").status_code == 204
    work(app)
    assert found(ada, "same") == ["Again"]


def test_markup_in_a_document_stays_text(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    upload(ada, b"begin <img src=x onerror=alert(1)> end of the line", "a.txt", message["id"])
    work(app)
    response = search(ada, "begin line")
    assert response.content_type == "application/json"
    assert "<img src=x onerror=alert(1)>" in response.get_json()[0]["snippet"]["text"]


def test_a_rebuild_indexes_documents(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    upload(ada, b"words of a document", "a.txt", message["id"])
    work(app)
    with app.app_context():
        with db.engine.begin() as connection:
            words = [(message["id"], message["conversation_id"], ["nothing"])]
            documents.write_words(connection, ada.user["id"], words)
        with db.engine.begin() as connection:
            assert backlog.begin_rebuild(connection)
        assert found(ada, "document") == []
        assert sum(count or 0 for count in backlog.index_backlog())
    assert found(ada, "document") == ["Please read this."]


def test_a_long_document_is_found_by_its_end(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    text = " ".join(f"word{number % 5000}" for number in range(45_000)) + " the zebra at the end"
    attachment = upload(ada, text.encode(), "long.txt", message["id"])
    work(app)
    [hit] = search(ada, "zebra").get_json()
    assert hit["attachment_id"] == attachment["id"]
    assert "zebra" in hit["snippet"]["text"]
    assert hit["snippet"]["cut_before"] is True


def state_of(app: Flask, attachment: dict[str, Any]) -> tuple[str | None, int]:
    with app.app_context():
        query = sa.select(StoredFile.text_state, StoredFile.text_attempts).where(
            StoredFile.sha256 == attachment["sha256"]
        )
        row = db.session.execute(query).one()
        return row[0], row[1]


def test_what_has_no_text_is_not_tried_again(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(20)
    picture = upload(ada, png, "a.png", message["id"])
    broken = upload(ada, b"%PDF-1.4\n nothing of a PDF", "b.pdf", message["id"])
    work(app)
    assert state_of(app, picture) == ("none", 1)
    assert state_of(app, broken) == ("failed: unreadable", 1)
    work(app)
    assert state_of(app, broken) == ("failed: unreadable", 1)
    with app.app_context(), db.engine.begin() as connection:
        assert texts.forget_failures(connection) >= 1
    work(app)
    assert state_of(app, broken) == ("failed: unreadable", 1)


def test_a_file_that_takes_the_process_down_is_not_tried_for_ever(
    ada: Api, app: Flask, message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: object, **kwargs: object) -> None:
        raise Killed()

    attachment = upload(ada, b"deadly words", "a.txt", message["id"])
    monkeypatch.setattr(texts, "extract", die)
    for attempts in range(1, texts.MAX_ATTEMPTS + 1):
        with pytest.raises(Killed), app.app_context():
            extractor.work_through()
        assert state_of(app, attachment) == (None, attempts)
    work(app)
    assert state_of(app, attachment)[0] == "failed: interrupted"


def test_a_storage_that_is_away_is_no_failure(
    ada: Api, app: Flask, message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attachment = upload(ada, b"patient words", "a.txt", message["id"])

    def away(*args: object, **kwargs: object) -> None:
        raise OSError("The storage is away.")

    with monkeypatch.context() as patched:
        patched.setattr(texts, "extract", away)
        for _ in range(texts.MAX_ATTEMPTS + 2):
            with pytest.raises(OSError, match="away"), app.app_context():
                extractor.work_through()
    assert state_of(app, attachment) == (None, 0)
    work(app)
    assert found(ada, "patient") == ["Please read this."]


def test_a_file_without_bytes_says_so(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    attachment = upload(ada, b"lost words", "a.txt", message["id"])
    with app.app_context():
        file_id = db.session.scalar(sa.select(StoredFile.id).where(StoredFile.sha256 == attachment["sha256"]))
        store.storage().delete(store.name_of(ada.user["id"], str(file_id)))
    work(app)
    assert state_of(app, attachment)[0] == "failed: missing"


def test_one_process_at_a_time_reads(app: Flask) -> None:
    with app.app_context(), extractor.try_fleet_lock("extraction"):
        assert extractor.work_through() is None


def test_the_text_goes_with_the_file(ada: Api, app: Flask, message: dict[str, Any]) -> None:
    upload(ada, b"gone with the account", "a.txt", message["id"])
    work(app)
    own = (
        sa.select(sa.func.count()).select_from(AttachmentText).where(AttachmentText.user_id == ada.user["id"])
    )
    with app.app_context():
        assert db.session.scalar(own) == 1
    assert ada.delete("/auth/me", json={"current_password": PASSWORD}).status_code == 204
    with app.app_context():
        assert db.session.scalar(own) == 0


def test_text_that_is_needed_at_once_is_extracted_at_once(
    ada: Api, app: Flask, message: dict[str, Any]
) -> None:
    attachment = upload(ada, b"words for a model", "a.txt", message["id"])
    with app.app_context():
        file_id = str(
            db.session.scalar(sa.select(StoredFile.id).where(StoredFile.sha256 == attachment["sha256"]))
        )
        own = {"user_id": ada.user["id"], "file_id": file_id}
        db.session.rollback()
        assert texts.read_text(**own) == texts.DocumentText(None)
        assert texts.read_text(**own, extract_now=True) == texts.DocumentText("done", "words for a model")
        assert texts.read_text(**own) == texts.DocumentText("done", "words for a model")
        assert texts.read_text(user_id=file_id, file_id=file_id) is None
