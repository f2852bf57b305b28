"""Uploads: a file by multipart, stored once for equal content, of a message or as a draft."""

import hashlib
import io
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.files.models import StoredFile
from tests.completions.chat import run_sql
from tests.conftest import serving, user_maker
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, names_of, upload, uploaded


@pytest.mark.happy_path("create_attachment", "get_attachment", "get_content")
def test_upload_to_a_message_is_stored_and_downloaded(app: Flask, ada: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    attachment = uploaded(ada, message_id=message)
    assert attachment == {
        "id": attachment["id"],
        "message_id": message,
        "file_type": "image/png",
        "file_path": f"/chat/attachments/{attachment['id']}/content",
        "file_name": "cat.png",
        "size_bytes": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "created_at": attachment["created_at"],
    }
    assert ada.get(f"/chat/attachments/{attachment['id']}").get_json() == attachment
    assert ada.get(f"/chat/messages/{message}/attachments").get_json() == [attachment]
    download = ada.get(attachment["file_path"])
    assert (download.status_code, download.get_data()) == (200, PNG)
    assert len(names_of(app, ada)) == 1


def test_equal_content_of_a_user_is_stored_once(app: Flask, ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    first, second = uploaded(ada), uploaded(ada, name="again.png", message_id=message)
    uploaded(bob)
    assert first["sha256"] == second["sha256"]
    assert first["id"] != second["id"]
    assert (len(names_of(app, ada)), len(names_of(app, bob))) == (1, 1)
    [(rows,)] = run_sql(app, "SELECT count(*) FROM stored_files WHERE user_id = :user", user=ada.user_id)
    assert rows == 1


def test_draft_says_when_it_expires(ada: Api) -> None:
    draft = uploaded(ada)
    assert (draft["message_id"], draft["expires_at"] > draft["created_at"]) == (None, True)
    assert ada.get(f"/chat/attachments/{draft['id']}").get_json() == draft
    assert ada.get(draft["file_path"]).get_data() == PNG


def test_upload_to_nobodys_message_leaves_nothing(app: Flask, ada: Api, bob: Api) -> None:
    hers = ada.message(ada.conversation()["id"])["id"]
    assert_problem(upload(bob, message_id=hers), 404)
    assert names_of(app, bob) == set()


def test_repeated_upload_with_a_key_is_one_attachment(app: Flask, ada: Api) -> None:
    key = {"Idempotency-Key": "one"}
    first = upload(ada, headers=key)
    again = upload(ada, headers=key)
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["Idempotency-Replayed"] == "true"
    [(drafts,)] = run_sql(
        app, "SELECT count(*) FROM attachment_drafts WHERE user_id = :user", user=ada.user_id
    )
    assert (drafts, len(names_of(app, ada))) == (1, 1)
    for other in ({"content": PNG + b"x"}, {"name": "dog.png"}):
        assert_problem(upload(ada, headers=key, **other), 422)
    assert_problem(upload(ada, headers={"Idempotency-Key": ""}), 400, "Idempotency-Key")
    assert len(names_of(app, ada)) == 1


def test_the_last_upload_says_what_kind_of_text_equal_content_is(ada: Api) -> None:
    conversation_id = ada.conversation()["id"]
    for name, kind in (("a.txt", "text/plain"), ("a.csv", "text/csv"), ("a", "text/plain")):
        attachment = uploaded(ada, b"a;b", name=name, claimed="")
        assert attachment["file_type"] == kind
        assert ada.get(f"/chat/attachments/{attachment['id']}").get_json() == attachment
        ada.message(conversation_id, "Hello", attachment_ids=[attachment["id"]])
        assert ada.get(f"/chat/attachments/{attachment['id']}").get_json()["file_type"] == kind


def test_content_that_is_a_text_after_all_has_its_text_extracted(app: Flask, ada: Api) -> None:
    content = "Größe".encode("cp1252")
    path = f"/chat/attachments/{uploaded(ada, content, name='a', claimed='')['id']}/text"
    with app.app_context():
        db.session.execute(
            sa.update(StoredFile).where(StoredFile.user_id == ada.user_id).values(text_state="none")
        )
        db.session.commit()
    assert_problem(ada.get(path), 404)
    attachment = uploaded(ada, content, name="a.csv", claimed="")
    assert attachment["file_type"] == "text/csv"
    assert assert_problem(ada.get(path), 409)["code"] == "text_not_ready"
    again = uploaded(
        ada, content, name="a", claimed=""
    )  # nothing is known of it now, and nothing is forgotten
    assert again["file_type"] == "text/csv"
    assert ada.get(f"/chat/attachments/{again['id']}").get_json() == again


def test_bytes_of_a_user_are_limited_and_equal_ones_count_once(
    app: Flask, ada: Api, bob: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MAX_FILE_BYTES_PER_USER", 2 * len(PNG))
    uploaded(ada)
    uploaded(ada, PNG[:-1] + b"x")
    assert uploaded(ada)["size_bytes"] == len(PNG)
    problem = assert_problem(upload(ada, PNG[:-1] + b"y"), 409)
    assert (problem["code"], problem["quota"]) == ("quota_exceeded", "file_bytes")
    assert len(names_of(app, ada)) == 2
    uploaded(bob, PNG[:-1] + b"y")


def test_large_upload_beyond_the_quota_is_refused_before_it_is_read(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MAX_FILE_BYTES_PER_USER", 1000)
    body = io.BytesIO(b"x" * 2_000_000)
    overrides = {
        "CONTENT_TYPE": "multipart/form-data; boundary=b",
        "CONTENT_LENGTH": "2000000",
        "wsgi.input": body,
    }
    assert_problem(ada.request("POST", "/chat/attachments", environ_overrides=overrides), 409)
    assert body.tell() == 0


def test_drafts_of_a_user_are_limited(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MAX_DRAFTS_PER_USER", 2)
    first = uploaded(ada)
    uploaded(ada, name="b.png")
    problem = assert_problem(upload(ada, PNG[:-1] + b"x"), 409)
    assert problem["quota"] == "attachment_drafts"
    assert len(names_of(app, ada)) == 1, "The bytes of what was refused are gone."
    message = ada.message(ada.conversation()["id"])["id"]
    uploaded(ada, PNG[:-1] + b"x", message_id=message)
    assert ada.delete(f"/chat/attachments/{first['id']}").status_code == 204
    uploaded(ada, PNG[:-1] + b"z")


def test_lost_bytes_come_back_with_an_upload_of_the_same_content(app: Flask, ada: Api) -> None:
    first = uploaded(ada)
    [name] = names_of(app, ada)
    (Path(app.config["DATA_DIR"]) / "files" / name).unlink()
    assert_problem(ada.get(first["file_path"]), ada.get(first["file_path"]).status_code)
    uploaded(ada)
    assert ada.get(first["file_path"]).get_data() == PNG


def test_storage_that_is_away_is_503_and_nothing_is_stored(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    away = {"ATTACHMENT_STORAGE": "s3://bucket", "S3_ENDPOINT_URL": "http://127.0.0.1:9"}
    with serving(database_url, tmp_path, **away) as app:
        user = user_maker(app)()
        problem = assert_problem(upload(user), 503)
        assert problem["detail"].startswith("The storage for files is unavailable at the moment.")
        used = user.get("/chat/usage").get_json()
        assert used["attachment_drafts"]["used"] == used["file_bytes"]["used"] == 0
