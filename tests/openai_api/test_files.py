"""/v1/files: uploads that messages can name."""

import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.files.models import AttachmentDraft
from tests.openai_api.door import refused
from tests.support.api import Api
from tests.support.uploads import PNG, names_of, upload, uploaded

DAY_S = 86400


def send(user: Api, content: bytes = PNG, /, **fields: Any) -> Any:
    return upload(user, content, path="/v1/files", **{"purpose": "user_data", **fields})


def made(user: Api, content: bytes = PNG, /, **fields: Any) -> dict[str, Any]:
    response = send(user, content, **fields)
    assert response.status_code == 200, response.get_data(as_text=True)
    file: dict[str, Any] = response.get_json()
    return file


def listed(user: Api, query: str = "") -> tuple[list[str], bool]:
    response = user.get(f"/v1/files{query}")
    assert response.status_code == 200, response.get_data(as_text=True)
    page = response.get_json()
    ids = [file["id"] for file in page["data"]]
    assert (page["object"], page["first_id"], page["last_id"]) == (
        "list",
        ids[0] if ids else None,
        ids[-1] if ids else None,
    )
    return ids, page["has_more"]


def test_a_file_is_stored_read_and_deleted(app: Flask, ada: Api) -> None:
    file = made(ada, purpose="vision")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(PNG),
        "created_at": file["created_at"],
        "expires_at": file["created_at"] + 30 * DAY_S,
        "filename": "cat.png",
        "purpose": "vision",
        "status": "processed",
        "status_details": None,
    }
    assert file["id"].startswith("file-")
    assert len(file["id"]) == len("file-") + 32
    path = f"/v1/files/{file['id']}"
    assert ada.get(path).get_json() == file
    content = ada.get(f"{path}/content")
    assert (content.data, content.mimetype) == (PNG, "image/png")
    assert ada.get(f"{path}/content", headers={"Range": "bytes=0-3"}).data == PNG[:4]
    assert listed(ada) == ([file["id"]], False)
    assert ada.delete(path).get_json() == {"id": file["id"], "object": "file", "deleted": True}
    for response in (ada.get(path), ada.get(f"{path}/content"), ada.delete(path)):
        refused(response, 404, "not_found")
    assert listed(ada) == ([], False)


def test_it_is_an_upload_of_chat(ada: Api) -> None:
    file = made(ada)
    id_ = str(uuid.UUID(file["id"].removeprefix("file-")))
    assert ada.get(f"/chat/attachments/{id_}").get_json()["file_name"] == "cat.png"
    conversation = ada.conversation()["id"]
    message = ada.message(conversation, attachment_ids=[id_])
    assert ada.get(f"/v1/files/{file['id']}").get_json()["expires_at"] is None
    assert listed(ada) == ([], False)
    assert ada.get(f"/v1/files/{id_}/content").data == PNG
    waiting = uploaded(ada)
    assert ada.get(f"/v1/files/{waiting['id']}").get_json()["purpose"] == "user_data"
    refused(ada.get(f"/v1/files/{ada.attachment(message['id'])['id']}"), 404, "not_found")


def test_pages_and_purposes(ada: Api) -> None:
    ids = [made(ada, b"%d" % number, name="a.txt", claimed="")["id"] for number in range(3)]
    seen = made(ada, purpose="vision")["id"]
    native = "file-" + uploaded(ada, b"native", name="a.txt", claimed="")["id"].replace("-", "")
    newest = [native, seen, *ids[::-1]]
    assert listed(ada) == (newest, False)
    assert listed(ada, "?order=asc") == (newest[::-1], False)
    assert listed(ada, "?limit=2") == (newest[:2], True)
    assert listed(ada, f"?limit=2&after={newest[1]}") == (newest[2:4], True)
    assert listed(ada, f"?limit=2&after={newest[3]}") == (newest[4:], False)
    assert listed(ada, f"?order=asc&limit=1&after={newest[3]}") == ([newest[2]], True)
    assert listed(ada, "?purpose=vision") == ([seen], False)
    assert listed(ada, "?purpose=user_data") == ([native, *ids[::-1]], False)
    assert listed(ada, "?purpose=evals&limit=10000") == ([], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("purpose=x", "purpose"),
    ],
)
def test_faulty_queries(ada: Api, query: str, param: str) -> None:
    refused(ada.get(f"/v1/files?{query}"), 400, "invalid_value", param)


@pytest.mark.parametrize("after", ["file-1", "file-" + "0" * 32])
def test_a_page_after_nothing(ada: Api, after: str) -> None:
    refused(ada.get(f"/v1/files?after={after}"), 404, "not_found")


def test_a_shorter_life(app: Flask, ada: Api) -> None:
    file = made(ada, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert file["expires_at"] - file["created_at"] == 3600
    with app.app_context():
        own = AttachmentDraft.user_id == ada.user_id
        db.session.execute(
            sa.update(AttachmentDraft).where(own).values(expires_at=AttachmentDraft.created_at)
        )
        db.session.commit()
    assert listed(ada) == ([], False)
    refused(ada.get(f"/v1/files/{file['id']}"), 404, "not_found")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"purpose": "fun"}, "invalid_value", "purpose"),
        ({"expires_after[seconds]": "3600"}, "invalid_value", "expires_after"),
        (
            {"expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            "invalid_value",
            "expires_after",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
            "invalid_value",
            "expires_after",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "9e9"},
            "invalid_value",
            "expires_after",
        ),
    ],
)
def test_faulty_forms(app: Flask, ada: Api, fields: dict[str, str], code: str, param: str) -> None:
    refused(send(ada, **fields), 400, code, param)
    refused(upload(ada, path="/v1/files"), 400, "missing_required_parameter", "purpose")
    assert names_of(app, ada) == set()


def test_fields_that_nobody_knows_are_ignored(ada: Api) -> None:
    made(ada, from_the_future="yes")
    assert upload(ada, from_the_future="yes").status_code == 400


def test_what_is_no_form(ada: Api) -> None:
    refused(ada.post("/v1/files", {"purpose": "user_data"}), 415, "invalid_value", "file")


def test_limits_of_uploads_hold(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MAX_DRAFTS_PER_USER", 1)
    made(ada)
    error = refused(send(ada, b"another", name="a.txt", claimed=""), 429, "insufficient_quota")
    assert error["type"] == "insufficient_quota"
    monkeypatch.setitem(app.config, "MAX_ATTACHMENT_BYTES", 10)
    refused(send(ada), 413, "payload_too_large")


def test_one_file_for_one_key(ada: Api) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = made(ada, headers=headers), made(ada, headers=headers)
    assert first == second
    assert listed(ada) == ([first["id"]], False)
    refused(send(ada, headers=headers, purpose="vision"), 422, "idempotency_key_reused")
