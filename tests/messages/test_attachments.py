"""Messages that are posted with attachments: uploads that become theirs, and content in parts."""

from typing import Any

import pytest
from flask import Flask

from chat_api.database.columns import new_id
from tests.completions.chat import run_sql
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, uploaded


def body_of(user: Api, **fields: Any) -> dict[str, Any]:
    conversation = fields.pop("conversation_id", None) or user.conversation()["id"]
    return {"conversation_id": conversation, "role": "user", "content": "Look", **fields}


def draft(user: Api, content: bytes = PNG, name: str = "cat.png") -> str:
    return str(uploaded(user, content, name=name, claimed="")["id"])


def test_uploads_become_the_messages_attachments_in_the_order_that_is_named(ada: Api) -> None:
    ids = [draft(ada), draft(ada, b"some text", "notes.txt"), draft(ada, b"more text", "more.txt")]
    ids = [ids[2], ids[0], ids[1]]
    message = ada.made("/chat/messages", body_of(ada, attachment_ids=ids))
    assert "parts" not in message
    attachments = ada.get(f"/chat/messages/{message['id']}/attachments").get_json()
    assert [each["id"] for each in attachments] == ids
    assert {each["message_id"] for each in attachments} == {message["id"]}
    assert [each["file_name"] for each in attachments] == ["more.txt", "cat.png", "notes.txt"]
    assert all("expires_at" not in each for each in attachments)
    assert ada.get(f"/chat/attachments/{ids[1]}/content").get_data() == PNG
    later = ada.attachment(message["id"])
    assert ada.get(f"/chat/messages/{message['id']}/attachments").get_json()[-1] == later


def test_content_in_parts_keeps_its_order(ada: Api) -> None:
    first, second = draft(ada), draft(ada, b"some text", "notes.txt")
    parts = [
        {"type": "text", "text": "Compare this"},
        {"type": "attachment", "attachment_id": first},
        {"type": "text", "text": "with that."},
        {"type": "attachment", "attachment_id": second},
    ]
    message = ada.made("/chat/messages", body_of(ada, content=parts))
    assert (message["content"], message["parts"]) == ("Compare this\n\nwith that.", parts)
    assert ada.get(f"/chat/messages/{message['id']}").get_json() == message
    listed = ada.get(f"/chat/conversations/{message['conversation_id']}/messages").get_json()
    assert listed == [message]
    attachments = ada.get(f"/chat/messages/{message['id']}/attachments").get_json()
    assert [each["id"] for each in attachments] == [first, second]
    [hit] = ada.get("/chat/search?q=compare").get_json()
    assert hit["message"]["id"] == message["id"]


def test_one_text_in_a_list_is_text(ada: Api) -> None:
    message = ada.made("/chat/messages", body_of(ada, content=[{"type": "text", "text": "Hello"}]))
    assert (message["content"], "parts" in message) == ("Hello", False)


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_texts_in_a_list_are_for_every_role(ada: Api, role: str) -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "World"}]
    message = ada.made("/chat/messages", body_of(ada, role=role, content=parts))
    assert (message["content"], message["parts"]) == ("Hello\n\nWorld", parts)


def test_a_message_may_be_an_attachment_alone(ada: Api) -> None:
    message = ada.made("/chat/messages", body_of(ada, content="", attachment_ids=[draft(ada)]))
    assert message["content"] == ""
    part = {"type": "attachment", "attachment_id": draft(ada)}
    message = ada.made("/chat/messages", body_of(ada, content=[part]))
    assert (message["content"], message["parts"]) == ("", [part])


def test_an_upload_becomes_the_attachment_of_one_message_only(app: Flask, ada: Api) -> None:
    upload = draft(ada)
    body = body_of(ada, attachment_ids=[upload])
    ada.made("/chat/messages", body)
    assert_problem(ada.post("/chat/messages", body), 409)
    [(count,)] = run_sql(app, "SELECT count(*) FROM messages WHERE user_id = :user", user=ada.user_id)
    assert count == 1


def test_a_repeated_request_with_a_key_has_the_same_message(ada: Api) -> None:
    body = body_of(ada, content=[{"type": "attachment", "attachment_id": draft(ada)}])
    first, second = (ada.made("/chat/messages", body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first == second
    other = {**body, "attachment_ids": [draft(ada)]}
    assert_problem(ada.post("/chat/messages", other, headers={"Idempotency-Key": "k"}), 422)


def test_expired_upload_is_gone(app: Flask, ada: Api) -> None:
    upload = draft(ada)
    run_sql(app, "UPDATE attachment_drafts SET expires_at = created_at WHERE id = :id", id=upload)
    assert_problem(ada.post("/chat/messages", body_of(ada, attachment_ids=[upload])), 404)
    assert_problem(ada.get(f"/chat/attachments/{upload}"), 404)
    assert_problem(ada.get(f"/chat/attachments/{upload}/content"), 404)


def test_label_is_no_upload_and_one_unknown_upload_refuses_all(app: Flask, ada: Api) -> None:
    label = ada.attachment(ada.message(ada.conversation()["id"])["id"])["id"]
    upload = draft(ada)
    assert_problem(ada.post("/chat/messages", body_of(ada, attachment_ids=[label])), 409)
    assert_problem(ada.post("/chat/messages", body_of(ada, attachment_ids=[upload, new_id()])), 404)
    assert ada.get(f"/chat/attachments/{upload}").get_json()["message_id"] is None


A, B = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071", "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6072"
PART = {"type": "attachment", "attachment_id": A}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"content": []}, "content"),
        ({"content": [{"type": "text"}]}, "content"),
        ({"content": [{"type": "text", "text": ""}]}, "content"),
        ({"content": [{"type": "text", "text": "x", "attachment_id": A}]}, "content"),
        ({"content": [{"type": "image_url", "text": "x"}]}, "content"),
        ({"content": [{"type": "attachment", "attachment_id": "x"}]}, "content"),
        ({"content": [{"type": "attachment"}]}, "content"),
        ({"content": ["text"]}, "content"),
        ({"content": [PART, PART]}, "content"),
        ({"content": {"type": "text", "text": "x"}}, "content"),
        ({"content": [{"type": "text", "text": "x", "cache_control": {}}]}, "content"),
        ({"content": [{"type": "text", "text": "x"}] * 101}, "content"),
        ({"content": [{"type": "text", "text": "x" * 600_000}] * 2}, "content"),
        ({"attachment_ids": []}, "attachment_ids"),
        ({"attachment_ids": [A, A]}, "attachment_ids"),
        ({"attachment_ids": "x"}, "attachment_ids"),
        ({"attachment_ids": [1]}, "attachment_ids"),
        ({"attachment_ids": [f"{A[:-2]}{number:02x}" for number in range(51)]}, "attachment_ids"),
        ({"content": ""}, "content"),
        ({"role": "assistant", "attachment_ids": [A]}, "attachment_ids"),
        ({"role": "system", "content": [PART]}, "attachment_ids"),
    ],
)
def test_malformed_content_is_refused(ada: Api, fields: dict[str, Any], field: str) -> None:
    assert_problem(ada.post("/chat/messages", body_of(ada, **fields)), 400, field)
