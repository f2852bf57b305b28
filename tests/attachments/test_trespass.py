"""Whatever a client calls a file, and whosever attachment it names: it gets no bytes but its own, and writes nowhere
else. What comparable products got wrong, path by path."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id
from chat_api.storage.interface import NAME
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import names_of, stored_names, uploaded

SECRET = b"what only ada may read"
NAMES = ["../../escaped.txt", "..\\..\\escaped.txt", "/etc/escaped.txt", "C:\\escaped.txt", "....//escaped.txt",
         "%2e%2e%2fescaped.txt", "..%c0%afescaped.txt", "escaped.txt\x00.png", "\\\\host\\share\\escaped.txt",
         "file:///escaped.txt", "~/escaped.txt", ".htaccess", "escaped.txt::$DATA", "incoming/escaped.txt",
         base64.b64encode(b"../../escaped.txt").decode()]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_client_is_a_path(app: Flask, ada: Api, name: str) -> None:
    folder = Path(app.config["DATA_DIR"])
    others = {path for path in folder.rglob("*") if "files" not in path.parts}
    attachment = uploaded(ada, SECRET, name=name, claimed="")
    assert all(NAME.fullmatch(each) for each in stored_names(app))
    assert {each.name for each in (folder / "files" / "incoming").iterdir()} == set()
    new = {path for path in folder.rglob("*") if "files" not in path.parts} - others
    assert not [path for path in new if "escaped" in path.name or "htaccess" in path.name]
    assert ada.get(attachment["file_path"]).get_data() == SECRET
    assert not set("/\\\x00") & set(attachment["file_name"])


@pytest.mark.parametrize(
    "file_path",
    [
        "/etc/passwd",
        "secrets/jwt_secret_key",
        "https://metadata.example/",
        "{content}",
        "{name}",
        "files/{name}",
    ],
)
def test_path_of_a_client_is_never_read(app: Flask, ada: Api, bob: Api, file_path: str) -> None:
    """Neither the server's own files, nor addresses, nor where somebody else's file is."""
    theirs = uploaded(ada, SECRET, name="a.txt", claimed="")
    [name] = names_of(app, ada)
    body = {
        "message_id": bob.message(bob.conversation()["id"])["id"],
        "file_type": "text/plain",
        "file_path": file_path.format(content=theirs["file_path"], name=name),
    }
    made = bob.made("/chat/attachments", body)
    for path in ("content", "text"):
        assert_problem(bob.get(f"/chat/attachments/{made['id']}/{path}"), 404)
    assert_problem(bob.post(f"/chat/attachments/{made['id']}/link"), 404)
    assert bob.delete(f"/chat/attachments/{made['id']}").status_code == 204
    assert ada.get(theirs["file_path"]).get_data() == SECRET


def by_parts(user: Api, attachment_id: str) -> TestResponse:
    part = {"type": "attachment", "attachment_id": attachment_id}
    body = {"conversation_id": user.conversation()["id"], "role": "user", "content": [part]}
    return user.post("/chat/messages", body)


def by_ids(user: Api, attachment_id: str) -> TestResponse:
    body = {"conversation_id": user.conversation()["id"], "role": "user", "content": "x"}
    return user.post("/chat/messages", body | {"attachment_ids": [attachment_id]})


WAYS: dict[str, Callable[[Api, str], TestResponse]] = {
    "content": lambda user, id_: user.get(f"/chat/attachments/{id_}/content"),
    "a range": lambda user, id_: user.get(f"/chat/attachments/{id_}/content", headers={"Range": "bytes=0-1"}),
    "HEAD": lambda user, id_: user.request("HEAD", f"/chat/attachments/{id_}/content"),
    "text": lambda user, id_: user.get(f"/chat/attachments/{id_}/text"),
    "link": lambda user, id_: user.post(f"/chat/attachments/{id_}/link"),
    "attachment": lambda user, id_: user.get(f"/chat/attachments/{id_}"),
    "attachment_ids": by_ids,
    "parts": by_parts,
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_the_bytes_of_another(ada: Api, bob: Api, way: str) -> None:
    """Nor does anything tell that they are there: by its time, its hash or its quota."""
    draft = uploaded(ada, SECRET, name="a.txt", claimed="")
    attached = uploaded(
        ada, SECRET, name="a.txt", claimed="", message_id=ada.message(ada.conversation()["id"])["id"]
    )
    unknown = WAYS[way](bob, new_id())
    for attachment in (draft, attached):
        answer = WAYS[way](bob, attachment["id"])
        assert answer.status_code == unknown.status_code == 404
        if way != "HEAD":
            assert answer.get_json()["detail"] == unknown.get_json()["detail"]
    # the same content is another file of his own, with its own quota
    own = uploaded(bob, SECRET, name="a.txt", claimed="")
    assert own["id"] not in (draft["id"], attached["id"])
    assert bob.delete(f"/chat/attachments/{own['id']}").status_code == 204
    assert ada.get(draft["file_path"]).get_data() == SECRET


def test_list_and_search_show_nothing_of_another(ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])
    uploaded(ada, SECRET, name="a.txt", claimed="", message_id=message["id"])
    assert_problem(bob.get(f"/chat/messages/{message['id']}/attachments"), 404)
    assert bob.get("/chat/search?q=only").get_json() == []
    assert b"what only" not in bob.get("/chat/export", buffered=True).get_data()


def test_every_upload_has_a_limit(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two paths of another product had none."""
    paths = [
        path
        for path, item in ada.get("/openapi.json").get_json()["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict)
        and "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
    ]
    assert sorted(paths) == ["/chat/attachments", "/chat/import"]
    for setting in ("MAX_ATTACHMENT_BYTES", "MAX_IMPORT_BYTES"):
        monkeypatch.setitem(app.config, setting, 1000)
    for path in paths:
        form = {"file": (io.BytesIO(b"x" * 1001), "a.txt")}
        assert_problem(ada.post(path, data=form, content_type="multipart/form-data"), 413)
