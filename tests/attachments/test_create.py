"""POST /chat/attachments: what is stored and returned, and what is refused."""

import pytest
from flask import Flask

from tests.support.api import Api
from tests.support.bodies import Body
from tests.support.problems import assert_problem
from tests.support.tables import owned_rows


@pytest.mark.happy_path("create_attachment")
def test_a_created_attachment_is_returned_whole_and_listed(ada: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    body = {"message_id": message, "file_type": "image/png", "file_path": "uploads/receipt.png"}
    response = ada.post("/chat/attachments", body)
    assert response.status_code == 201
    attachment = response.get_json()
    assert response.headers["Location"] == f"/chat/attachments/{attachment['id']}"
    assert attachment == {**body, "id": attachment["id"], "created_at": attachment["created_at"]}
    assert ada.get(f"/chat/messages/{message}/attachments").get_json() == [attachment]


def test_a_message_of_somebody_else_takes_no_attachment(app: Flask, ada: Api, bob: Api) -> None:
    message = bob.message(bob.conversation()["id"])["id"]
    body = {"message_id": message, "file_type": "image/png", "file_path": "a.png"}
    assert ada.post("/chat/attachments", body).status_code == 404
    assert (owned_rows(app, ada.user_id)["attachments"], owned_rows(app, bob.user_id)["attachments"]) == (
        0,
        0,
    )


@pytest.mark.parametrize("file_type", [
    "png", "image/", "/png", "image/p ng", "image/png;", "ima\nge/png", "image/png\n", "a/b/c", "image/пнг",
    "image/png; x", "text/html,", "*/*", "a" * 300 + "/b",
])  # fmt: skip
def test_file_type_that_is_no_media_type_is_refused(user: Api, body_for: Body, file_type: str) -> None:
    body = body_for("/chat/attachments") | {"file_type": file_type}
    assert_problem(user.post("/chat/attachments", body), 400, "file_type")


GOOD_PATHS = [
    "uploads/a.png", "/mnt/share/a.png", "s3://bucket/a.png", "https://x.example/a?b=c#d",
    "HTTPS://x.example/a", "a..b", "..a", "a..", "...", ".", "./a", "./name:with:colons", "C:\\x", "d:/x",
    "ünï/文件 😀.png", " a ", "100%", "%zz", "%2e", "a%20b", "-rf", "~root", "$HOME", "<script>", "' OR 1=1 --",
    "CON", "\u200bx",
]  # fmt: skip
BAD_PATHS = [
    "..", "../a", "/../a", "a/../b", "a/..", "..\\a", "a\\..\\b", "a/..\\b", "s3://bucket/../a", "%2e%2e/a",
    "%2E%2E%2Fa", "a%2f..%2fb", "a/%2e./b", "..%5ca", "%252e%252e/a", "a%252f..%252fb", "file:///etc/passwd",
    "FILE:/etc/passwd", "file:a", "%66ile:///etc/passwd", "fi%6ce:a", " file:a", "\u00a0file:a",
    "javascript:alert(1)", "JaVaScRiPt:x", " javascript:x", "java%73cript:x", "javascript%3Ax", "vbscript:x",
    "data:text/html,x", "DATA:,x", "blob:x", "about:blank", "mailto:a@b.example", "gopher://x", "ldap://x",
    "jar:file:x", "a\nb", "a\rb", "a\tb", "\x1bx", "\x7f", "\x85", "\u2028x", "\u2029x", "a%00b", "a%0Ab",
    "a%250ab", "", "x" * 4097,
]  # fmt: skip


@pytest.mark.parametrize("file_path", GOOD_PATHS)
def test_file_path_is_stored_as_it_was_sent(user: Api, body_for: Body, file_path: str) -> None:
    body = body_for("/chat/attachments") | {"file_path": file_path}
    assert user.made("/chat/attachments", body)["file_path"] == file_path


@pytest.mark.parametrize("file_path", BAD_PATHS)
def test_file_path_that_could_do_harm_is_refused(user: Api, body_for: Body, file_path: str) -> None:
    body = body_for("/chat/attachments") | {"file_path": file_path}
    assert_problem(user.post("/chat/attachments", body), 400, "file_path")
