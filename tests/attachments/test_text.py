"""The text of an upload: plain text, whatever it says, and a clear answer where there is none."""

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.documents.limits import MAX_TEXT_BYTES
from chat_api.files.models import StoredFile
from chat_api.search import extractor
from tests.documents.files import pdf_of
from tests.support import alone
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, uploaded

ada, app, bob = alone.ada, alone.app, alone.bob  # the fixtures here

HTML = b"<!doctype html><title>T</title><p>Hello &lt;script&gt;alert(1)&lt;/script&gt; there"


def extracted(app: Flask, user: Api, content: bytes, name: str = "a.pdf", **options: str) -> str:
    """The path of the text of an upload that the service has read."""
    attachment = uploaded(user, content, name=name, claimed="", **options)
    with app.app_context():
        assert extractor.work_through() is not None
    return f"/chat/attachments/{attachment['id']}/text"


@pytest.mark.happy_path("get_text")
def test_text_of_a_document_is_plain_text(app: Flask, ada: Api) -> None:
    message = ada.message(ada.conversation()["id"])
    document = pdf_of("The tenant pays the rent", "in advance")
    path = extracted(app, ada, document, message_id=message["id"])
    answer = ada.get(path)
    assert answer.status_code == 200
    assert answer.get_data(as_text=True).split() == ["The", "tenant", "pays", "the", "rent", "in", "advance"]
    assert {name: answer.headers.get_all(name) for name in (
        "Content-Type", "X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy",
        "Cache-Control", "Document-Text", "Content-Disposition",
    )} == {
        "Content-Type": ["text/plain; charset=utf-8"],
        "X-Content-Type-Options": ["nosniff"],
        "Content-Security-Policy": ["sandbox; default-src 'none'; frame-ancestors 'none'"],
        "Cross-Origin-Resource-Policy": ["same-origin"],
        "Cache-Control": ["private, no-cache"],
        "Document-Text": [],
        "Content-Disposition": [],
    }  # fmt: skip
    again = ada.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.get_data(), again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    head = ada.request("HEAD", path)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(answer.get_data())))


def test_text_of_html_is_never_html(app: Flask, ada: Api) -> None:
    answer = ada.get(extracted(app, ada, HTML, "a.html"))
    assert "<script>alert(1)</script>" in answer.get_data(
        as_text=True
    )  # the words of the page, not its markup
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_text_that_was_cut_says_so(app: Flask, ada: Api) -> None:
    answer = ada.get(extracted(app, ada, b"word " * (MAX_TEXT_BYTES // 5 + 100), "a.txt"))
    assert (answer.status_code, answer.headers["Document-Text"]) == (200, "incomplete")
    assert MAX_TEXT_BYTES - 10 < len(answer.get_data()) <= MAX_TEXT_BYTES


def test_text_that_is_not_extracted_yet_is_to_be_asked_for_again(ada: Api) -> None:
    attachment = uploaded(ada, b"Hello", name="a.txt", claimed="")
    answer = ada.get(f"/chat/attachments/{attachment['id']}/text")
    assert_problem(answer, 409)
    assert (answer.get_json()["code"], answer.headers["Retry-After"]) == ("text_not_ready", "1")


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [(PNG, "a.png", "no text in this file"), (b"%PDF-1.4\n nothing of a PDF", "a.pdf", "damaged")],
)
def test_file_without_a_text_says_why(app: Flask, ada: Api, content: bytes, name: str, says: str) -> None:
    answer = ada.get(extracted(app, ada, content, name))
    assert_problem(answer, 404)
    assert answer.get_json()["code"] == "no_text"
    assert says in answer.get_json()["detail"]


def test_every_reason_is_said(app: Flask, ada: Api) -> None:
    path = extracted(app, ada, b"Hello", "a.txt")
    for reason, says in (("encrypted", "encrypted"), ("too_slow", "took too long"), ("new", "could not be")):
        with app.app_context():
            own = StoredFile.user_id == ada.user_id
            db.session.execute(sa.update(StoredFile).where(own).values(text_state=f"failed: {reason}"))
            db.session.commit()
        assert says in ada.get(path).get_json()["detail"]


def test_paths_and_what_is_deleted_have_no_text(app: Flask, ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])
    label = ada.attachment(message["id"])
    assert ada.get(f"/chat/attachments/{label['id']}/text").get_json()["code"] == "not_found"
    path = extracted(app, ada, b"Hello", "a.txt")
    assert ada.get(path).status_code == 200
    assert_problem(bob.get(path), 404)
    assert ada.delete(path.removesuffix("/text")).status_code == 204
    assert_problem(ada.get(path), 404)
