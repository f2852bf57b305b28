"""Attachments that are sent to the model: byte for byte in each protocol's form, in their order, within budgets."""

import base64
import hashlib
import io
import random
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image

from chat_api.completions import preparing
from chat_api.completions.preparing import MAX_PREPARING, MAX_PREPARING_PER_USER, preparing_slots
from chat_api.llm.parts import DocumentPart
from chat_api.server.slots import Slots
from tests.completions.chat import Chat
from tests.completions.conftest import Serve
from tests.documents.files import pdf_of, zip_of
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider, error_answer, json_answer, openai_stream
from tests.support.s3 import BUCKET, S3Server
from tests.support.uploads import names_of, uploaded


def picture(size: tuple[int, int] = (60, 40), kind: str = "PNG", seed: int = 1) -> bytes:
    """The file of a picture that no other seed has, and that can't be compressed."""
    pixels = random.Random(seed).randbytes(size[0] * size[1] * 3)
    output = io.BytesIO()
    Image.frombytes("RGB", size, pixels).save(output, kind)
    return output.getvalue()


PNG = picture()
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(28)
MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(200)
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(100)
ZIP = b"PK\x03\x04" + bytes(100)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_text(*fields: str) -> str:
    """A file that is sent as a text: its name, its type and what it says."""
    return DocumentPart(*fields).as_text()


def draft(chat: Chat, content: bytes = PNG, name: str = "cat.png", claimed: str = "") -> str:
    """An upload that waits for its message."""
    attachment_id: str = uploaded(chat.api, content, name=name, claimed=claimed)["id"]
    return attachment_id


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def attached(attachment_id: str) -> dict[str, str]:
    return {"type": "attachment", "attachment_id": attachment_id}


def sent(chat: Chat) -> list[Any]:
    """The contents of the messages that the provider got last."""
    return [message["content"] for message in chat.sent[-1].json["messages"] if message["role"] == "user"]


def image_part(content: bytes = PNG, media_type: str = "image/png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{encoded(content)}"}}


@pytest.fixture
def anthropic(eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider, api_format="anthropic", request_options={"pdfs": True})


@pytest.fixture
def reading(eve: Api, provider: ScriptedProvider) -> Chat:
    """With a provider that reads documents."""
    return Chat.begin(eve, provider, request_options={"pdfs": True})


# -- what arrives ---------------------------------------------------------------------------------------------


def test_openai_gets_parts_in_their_order(reading: Chat) -> None:
    chat, document = reading, pdf_of("A contract")
    wav, paper = draft(chat, WAV, "voice.wav"), draft(chat, document, "contract.pdf")
    content = [
        text("Look:"),
        attached(draft(chat)),
        text("and hear"),
        attached(wav),
        attached(paper),
        text("Well?"),
    ]
    completion = chat.reply(content=content)
    assert sent(chat) == [
        [
            text("Look:"),
            image_part(),
            text("and hear"),
            {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
            {
                "type": "file",
                "file": {
                    "filename": "contract.pdf",
                    "file_data": f"data:application/pdf;base64,{encoded(document)}",
                },
            },
            text("Well?"),
        ]
    ]
    assert completion["omitted_attachments"] == []
    message = chat.messages[0]
    assert (message["content"], message["parts"]) == ("Look:\n\nand hear\n\nWell?", content)
    attachments = chat.api.get(f"/chat/messages/{message['id']}/attachments").get_json()
    assert [each["file_name"] for each in attachments] == ["cat.png", "voice.wav", "contract.pdf"]


def test_anthropic_gets_parts_in_their_order(anthropic: Chat) -> None:
    document = pdf_of("A contract")
    paper = draft(anthropic, document, "contract.pdf")
    anthropic.reply(content=[attached(draft(anthropic)), text("Compare with"), attached(paper)])
    image = {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded(document)}
    assert sent(anthropic) == [
        [
            {"type": "image", "source": image},
            text("Compare with"),
            {"type": "document", "source": source, "title": "contract.pdf"},
        ]
    ]


@pytest.mark.parametrize("with_key", [False, True])
def test_attachments_follow_the_text_that_does_not_place_them(chat: Chat, with_key: bool) -> None:
    second = picture(seed=2)
    ids = [draft(chat), draft(chat, second, "dog.png")]
    headers = {"Idempotency-Key": "k"} if with_key else {}
    response = chat.ask(content="Which?", attachment_ids=ids, headers=headers)
    assert response.status_code == 201
    assert sent(chat) == [[text("Which?"), image_part(), image_part(second)]]
    again = chat.ask(content="Which?", attachment_ids=ids, headers=headers)
    if with_key:
        assert (again.get_json(), len(chat.sent)) == (response.get_json(), 1)
    else:
        assert_problem(again, 409)
    assert len(chat.messages) == 2


def test_attachments_alone_are_a_message(chat: Chat) -> None:
    chat.reply(content=None, attachment_ids=[draft(chat)])
    chat.reply(content=[attached(draft(chat))])
    assert sent(chat) == [[image_part()], [image_part()]]
    assert [message["content"] for message in chat.messages if message["role"] == "user"] == ["", ""]


def test_attachments_of_stored_messages_are_sent(chat: Chat) -> None:
    message = chat.api.message(chat.conversation_id, "What is it?")
    uploaded(chat.api, PNG, message_id=message["id"])
    chat.reply(content=None)
    assert sent(chat) == [[text("What is it?"), image_part()]]


def test_the_same_is_sent_each_time(chat: Chat) -> None:
    """Regenerated, continued and edited: what caches of prompts need."""
    large = picture((2300, 20))
    content = [
        text("Which?"),
        attached(draft(chat)),
        attached(draft(chat, large)),
        attached(draft(chat, b"a b", "a.txt")),
    ]
    first = chat.reply(content=content)
    body = sent(chat)[0]
    chat.reply(content=None, parent_id=first["parent_id"])
    assert sent(chat) == [body]
    chat.reply(content="Go on", parent_id=first["message"]["id"])
    assert sent(chat) == [body, "Go on"]
    chat.reply(content="Another", parent_id=first["message"]["id"])
    assert sent(chat) == [body, "Another"]
    chat.reply(content=None)
    assert sent(chat)[0] == body


def test_reply_in_the_background_reads_the_files(chat: Chat) -> None:
    accepted = chat.ask(content="Which?", attachment_ids=[draft(chat)], background=True)
    assert accepted.status_code == 202
    assert chat.ended(accepted.get_json()["id"])["status"] == "completed"
    assert sent(chat) == [[text("Which?"), image_part()]]


def test_deleted_attachments_are_not_sent(chat: Chat) -> None:
    gone = draft(chat)
    chat.reply(content=[text("one"), attached(gone)])
    assert chat.api.delete(f"/chat/attachments/{gone}").status_code == 204
    chat.reply(content="two")
    assert sent(chat) == ["one", "two"]


def test_only_users_messages_are_sent_with_files(chat: Chat) -> None:
    chat.api.message(chat.conversation_id, "Draw")
    reply = chat.api.message(chat.conversation_id, "Here", role="assistant")
    uploaded(chat.api, PNG, message_id=reply["id"])
    chat.reply(content="Thanks")
    assert sent(chat) == ["Draw", "Thanks"]


# -- texts and documents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.md", "page.html", "data.json"])
def test_text_files_are_sent_as_they_are_with_their_name(chat: Chat, name: str) -> None:
    content = "<p>Hello</p>\n\n  ```\tx```  \n" if name == "page.html" else '{"a":\t"é"}\r\n\r\n  end'
    attachment = uploaded(chat.api, content.encode(), name=name, claimed="")
    chat.reply(content="Read", attachment_ids=[attachment["id"]])
    [said] = sent(chat)
    assert said == "Read\n\n" + as_text(name, attachment["file_type"], content)
    assert content in said


def test_a_fence_is_longer_than_those_in_the_text() -> None:
    assert as_text("a.md", "text/markdown", "````\nx\n````") == (
        'File "a.md" (text/markdown):\n`````\n````\nx\n````\n`````'
    )


def test_anthropic_gets_texts_as_documents(anthropic: Chat, eve: Api, provider: ScriptedProvider) -> None:
    anthropic.reply(
        content="Read",
        attachment_ids=[draft(anthropic, b"a, b\n", "a.txt"), draft(anthropic, b" \n", "b.txt")],
    )
    source = {"type": "text", "media_type": "text/plain", "data": "a, b\n"}
    document = {"type": "document", "source": source, "title": "a.txt"}
    assert sent(anthropic) == [[text("Read"), document, text(as_text("b.txt", "text/plain", " \n"))]]
    plain = Chat.begin(eve, provider, api_format="anthropic")
    plain.reply(content="Read", attachment_ids=[draft(plain, b"a, b\n", "a.txt")])
    assert sent(plain) == [[text("Read\n\n" + as_text("a.txt", "text/plain", "a, b\n"))]]


def test_text_of_a_document_is_sent_where_the_provider_takes_none(chat: Chat) -> None:
    chat.reply(content="Read", attachment_ids=[draft(chat, pdf_of("A contract"), "contract.pdf")])
    assert sent(chat) == ["Read\n\n" + as_text("contract.pdf", "application/pdf", "A contract")]


# -- images ---------------------------------------------------------------------------------------------------


def decoded_image(part: dict[str, Any]) -> Image.Image:
    head, _, data = part["image_url"]["url"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert head == f"data:{Image.MIME[image.format or '']};base64"
    image.load()
    return image


def test_large_images_are_made_to_fit(chat: Chat) -> None:
    chat.reply(content=None, attachment_ids=[draft(chat, picture((4096, 30)), "wide.png")])
    assert decoded_image(sent(chat)[0][0]).size == (2048, 15)


def test_images_of_other_types_are_converted(chat: Chat) -> None:
    ids = [draft(chat, picture(kind=kind), f"a.{kind}") for kind in ("BMP", "TIFF")]
    chat.reply(content=None, attachment_ids=ids)
    assert [decoded_image(part).size for part in sent(chat)[0]] == [(60, 40), (60, 40)]


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP"])
def test_images_that_the_provider_takes_are_left_alone(chat: Chat, kind: str) -> None:
    content = picture(kind=kind)
    chat.reply(content=None, attachment_ids=[draft(chat, content, "a")])
    assert sent(chat) == [[image_part(content, f"image/{kind.lower()}")]]


def test_a_vendor_that_takes_fewer_types_gets_another(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, request_options={"dialect": "xai"})
    chat.reply(content=None, attachment_ids=[draft(chat, picture(kind="WEBP"), "a.webp")])
    assert decoded_image(sent(chat)[0][0]).format in ("PNG", "JPEG")


# -- refusals -------------------------------------------------------------------------------------------------


def refused(chat: Chat, status: int, code: str, reason: str, **fields: Any) -> dict[str, Any]:
    """A request that is refused before anything is stored or sent."""
    before = (chat.messages, chat.completions, len(chat.sent))
    for response in (chat.ask(**fields), chat.api.post("/chat/completions/preview", chat.asked(**fields))):
        problem = assert_problem(response, status)
        assert (problem["code"], problem["reason"]) == (code, reason)
    assert (chat.messages, chat.completions, len(chat.sent)) == before
    return problem


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        pytest.param(MP4, "film.mp4", "unsupported_type", id="video"),
        pytest.param(bytes(range(256)), "a.bin", "unsupported_type", id="unknown"),
        pytest.param(b"OggS" + bytes(60), "a.ogg", "unsupported_type", id="other audio"),
        pytest.param(zip_of({"a.txt": "text"}), "a.zip", "unsupported_type", id="zip that is no document"),
        pytest.param(PNG[: len(PNG) // 2], "half.png", "damaged", id="half an image"),
        pytest.param(PNG[:30], "head.png", "damaged", id="no image"),
        pytest.param(pdf_of("secret")[:60], "a.pdf", "damaged", id="no document"),
        pytest.param(pdf_of(""), "scan.pdf", "no_text", id="document without text"),
    ],
)
def test_what_can_not_be_sent_is_refused(chat: Chat, content: bytes, name: str, reason: str) -> None:
    attachment_id = draft(chat, content, name)
    problem = refused(chat, 422, "attachment_refused", reason, attachment_ids=[attachment_id])
    assert (problem["attachment_id"], name in problem["detail"]) == (attachment_id, True)
    assert chat.api.get(f"/chat/attachments/{attachment_id}").get_json()["message_id"] is None
    message = chat.api.message(chat.conversation_id, "Hello", attachment_ids=[attachment_id])
    refused(chat, 422, "attachment_refused", reason, content=None)
    refused(chat, 422, "attachment_refused", reason, content=None, parent_id=message["id"])


def test_older_messages_get_a_note_of_what_can_not_be_sent(chat: Chat) -> None:
    film = draft(chat, MP4, "film.mp4")
    chat.api.message(chat.conversation_id, [text("See"), attached(film), text("there")])
    completion = chat.reply(content="Well?")
    assert completion["omitted_attachments"] == [{"attachment_id": film, "reason": "unsupported_type"}]
    note = '[The file "film.mp4" (video/mp4) is not here: files of this type can\'t be sent to a model.]'
    assert sent(chat) == [f"See\n\n{note}\n\nthere", "Well?"] or sent(chat) == [
        f"See\n\n{note}\n\nthere\n\nWell?"
    ]
    assert chat.get(completion["id"]) == completion
    assert chat.completions == [completion]


def test_a_decompression_bomb_is_refused(chat: Chat) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    problem = refused(
        chat, 422, "attachment_too_large", "too_large", attachment_ids=[draft(chat, bomb.getvalue())]
    )
    assert "cat.png" in problem["detail"]


def test_recordings_and_anthropic(anthropic: Chat) -> None:
    refused(
        anthropic,
        422,
        "attachment_refused",
        "unsupported_by_model",
        attachment_ids=[draft(anthropic, MP3, "a.mp3")],
    )


def test_lost_bytes_are_said(app: Flask, chat: Chat) -> None:
    attachment_id = draft(chat)
    [name] = names_of(app, chat.api)
    path = Path(app.config["DATA_DIR"]) / "files" / name
    content = path.read_bytes()
    for broken in (None, content[:-1]):
        path.unlink() if broken is None else path.write_bytes(broken)
        problem = refused(chat, 409, "attachment_unreadable", "lost", attachment_ids=[attachment_id])
        assert (problem["attachment_id"], "cat.png" in problem["detail"]) == (attachment_id, True)
    path.write_bytes(content)
    chat.reply(content="Look", attachment_ids=[attachment_id])
    path.unlink()
    completion = chat.reply(content="And now?")
    assert completion["omitted_attachments"] == [{"attachment_id": attachment_id, "reason": "lost"}]
    assert "its content is lost" in str(sent(chat)[0])


def test_paths_without_a_file_are_not_sent_and_that_is_said(chat: Chat) -> None:
    message = chat.api.message(chat.conversation_id, "Hello")
    label = chat.api.attachment(message["id"])
    completion = chat.reply(content=None)
    assert completion["omitted_attachments"] == [{"attachment_id": label["id"], "reason": "no_content"}]
    assert sent(chat) == ["Hello"]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": ""},
        {"content": []},
        {"content": [{"type": "attachment"}]},
        {"attachment_ids": []},
        {"attachment_ids": ["x"]},
        {"content": [{"type": "text", "text": ""}]},
    ],
)
def test_malformed_content_is_refused(chat: Chat, fields: dict[str, Any]) -> None:
    assert_problem(chat.ask(**fields), 400, next(iter(fields)))
    assert chat.messages == []


def test_uploads_that_are_not_there(chat: Chat, bob: Api) -> None:
    his = uploaded(bob, PNG)["id"]
    used = draft(chat)
    chat.reply(attachment_ids=[used])
    for ids, status, *fields in (([his], 404), ([used], 409), ([used, used], 400, "attachment_ids")):
        for path in ("/chat/completions", "/chat/completions/preview"):
            assert_problem(chat.api.post(path, chat.asked(attachment_ids=ids)), status, *fields)
    assert len(chat.messages) == 2


# -- budgets --------------------------------------------------------------------------------------------------


@pytest.fixture
def small(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two pictures."""
    monkeypatch.setitem(app.config, "MAX_SENT_FILE_BYTES", 2 * len(PNG) + 100)


NO_ROOM = '[The file "cat.png" (image/png) is not here: newer files took the room that there is for files.]'


@pytest.mark.usefixtures("small")
def test_the_oldest_are_left_out_first(chat: Chat) -> None:
    first = draft(chat)
    one = chat.reply(content="one", attachment_ids=[first])
    two = chat.reply(content="two", attachment_ids=[draft(chat)])
    assert one["omitted_attachments"] == two["omitted_attachments"] == []
    three = chat.reply(content="three", attachment_ids=[draft(chat)])
    assert three["omitted_attachments"] == [{"attachment_id": first, "reason": "no_room"}]
    assert sent(chat) == [f"one\n\n{NO_ROOM}", [text("two"), image_part()], [text("three"), image_part()]]
    assert chat.messages[0]["content"] == "one"


@pytest.mark.usefixtures("small")
def test_also_within_the_newest_message(chat: Chat) -> None:
    ids = [draft(chat) for _ in range(3)]
    completion = chat.reply(content=[attached(ids[0]), text("and"), attached(ids[1]), attached(ids[2])])
    assert completion["omitted_attachments"] == [{"attachment_id": ids[0], "reason": "no_room"}]
    assert sent(chat) == [[text(NO_ROOM), text("and"), image_part(), image_part()]]


@pytest.mark.usefixtures("small")
def test_one_that_is_too_large_alone_is_refused_or_noted(chat: Chat) -> None:
    large = draft(chat, picture((100, 100)), "large.png")
    refused(chat, 422, "attachment_too_large", "too_large", attachment_ids=[large])
    text_file = draft(chat, b"x" * 20_000, "long.txt")
    refused(chat, 422, "attachment_too_large", "too_large", attachment_ids=[text_file])
    chat.api.message(chat.conversation_id, "one", attachment_ids=[draft(chat)])
    chat.api.message(chat.conversation_id, "two", attachment_ids=[large])
    completion = chat.reply(content="three", attachment_ids=[draft(chat)])
    assert completion["omitted_attachments"] == [{"attachment_id": large, "reason": "too_large"}]
    assert str(sent(chat)).count("data:image/png") == 2, "One that is too large alone pushes no other out."


def test_tokens_of_files_count(chat: Chat, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = chat.reply(content="Look", attachment_ids=[draft(chat, picture((1000, 750)))])["id"]
    preview = chat.api.post("/chat/completions/preview", chat.asked(content="x" * 40)).get_json()
    assert preview["prompt_tokens"] > 1000
    assert chat.get(tokens)["status"] == "completed"
    monkeypatch.setitem(app.config, "MAX_SENT_FILE_TOKENS", 1500)
    completion = chat.reply(content="And", attachment_ids=[draft(chat, b"word " * 800, "a.txt")])
    assert [each["reason"] for each in completion["omitted_attachments"]] == ["no_room"]
    monkeypatch.setitem(app.config, "MAX_SENT_FILE_TOKENS", 500)
    refused(
        chat, 422, "attachment_too_large", "too_large", attachment_ids=[draft(chat, b"word " * 800, "a.txt")]
    )


def test_files_are_within_the_context_window(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, context_window=4000)
    first = draft(chat, picture((1000, 750)))
    chat.reply(content="one", attachment_ids=[first])
    chat.reply(content="two", attachment_ids=[draft(chat, picture((1000, 750), seed=2))])
    completion = chat.reply(content="three", attachment_ids=[draft(chat, picture((1000, 750), seed=3))])
    assert completion["omitted_messages"] == 0
    assert completion["omitted_attachments"] == [{"attachment_id": first, "reason": "no_room"}]
    refused(
        chat, 422, "attachment_too_large", "too_large", attachment_ids=[draft(chat, b"word " * 4000, "a.txt")]
    )


# -- the preview ----------------------------------------------------------------------------------------------


def test_preview_shows_type_size_and_hash(reading: Chat) -> None:
    chat, document = reading, pdf_of("A contract")
    ids = [draft(chat), draft(chat, document, "contract.pdf")]
    body = chat.asked(content="Look", attachment_ids=ids)
    response = chat.api.post("/chat/completions/preview", body)
    assert response.status_code == 200
    shown = response.get_json()

    def described(content: bytes) -> str:
        return f"<{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}>"

    assert shown["request"]["body"]["messages"][-1]["content"] == [
        text("Look"),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{described(PNG)}"}},
        {
            "type": "file",
            "file": {
                "filename": "contract.pdf",
                "file_data": f"data:application/pdf;base64,{described(document)}",
            },
        },
    ]
    assert shown["omitted_attachments"] == []
    assert (chat.messages, chat.sent) == ([], [])
    assert chat.ask(content="Look", attachment_ids=ids).status_code == 201, "The drafts are still there."


# -- what the provider says -----------------------------------------------------------------------------------


def test_model_that_is_listed_without_images_gets_none(eve: Api, provider: ScriptedProvider) -> None:
    with ScriptedProvider() as own:
        chat = Chat.begin(eve, own)
        models = {
            "data": [
                {"id": chat.model, "capabilities": {"vision": False}},
                {"id": "sees", "capabilities": {"vision": True}},
            ]
        }
        own.script(json_answer(models), openai_stream("ok"))
        refused(chat, 422, "attachment_refused", "unsupported_by_model", attachment_ids=[draft(chat)])
        chat.api.message(chat.conversation_id, "Look", attachment_ids=[draft(chat)])
        completion = chat.reply(content="So?")
        assert [each["reason"] for each in completion["omitted_attachments"]] == ["unsupported_by_model"]
        assert "data:" not in str(sent(chat))
        assert chat.reply(content="So?", model="sees")["omitted_attachments"] == []
        assert [request.method for request in own.requests].count("GET") == 1


def test_refused_images_have_a_code_and_are_remembered(chat: Chat) -> None:
    chat.script(error_answer(400, "This model does not support image input."), openai_stream("ok"))
    problem = assert_problem(chat.ask(content="Look", attachment_ids=[draft(chat)]), 502)
    assert problem["code"] == "provider_refused_attachment"
    refused(chat, 422, "attachment_refused", "unsupported_by_model", attachment_ids=[draft(chat)])
    completion = chat.reply(content="Then without")
    assert [each["reason"] for each in completion["omitted_attachments"]] == ["unsupported_by_model"]


def test_images_of_older_messages_are_left_out_when_they_are_refused(chat: Chat) -> None:
    chat.reply(content="Look", attachment_ids=[draft(chat)])
    chat.script(error_answer(400, "This model does not support image input."), openai_stream("ok"))
    completion = chat.reply(content="Go on")
    assert completion["status"] == "completed"
    assert completion["warnings"] == [
        "attachments: The model takes no pictures; a line stands in place of each."
    ]
    assert sent(chat) == [
        'Look\n\n[The file "cat.png" (image/png) is not here: the model does not take files of this kind.]',
        "Go on",
    ]


def test_complaint_about_one_image_teaches_nothing(chat: Chat) -> None:
    chat.script(error_answer(400, "Could not process image."), openai_stream("ok"))
    assert_problem(chat.ask(content="Look", attachment_ids=[draft(chat)]), 502)
    assert chat.reply(content=None)["omitted_attachments"] == []
    assert "data:image/png" in str(sent(chat))


# -- storage and memory ---------------------------------------------------------------------------------------


def test_files_in_s3_are_sent(serve: Serve, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        storage = {"ATTACHMENT_STORAGE": f"s3://{BUCKET}", "S3_ENDPOINT_URL": s3.endpoint_url}
        with serve(**storage) as app:
            there, large = chat.on(app), picture((2300, 10))
            ids = [draft(there), draft(there, large), draft(there, b"in a bucket", "a.txt")]
            there.reply(content="Look", attachment_ids=ids)
            parts = sent(chat)[0]
            assert parts[:2] == [text("Look"), image_part()]
            assert decoded_image(parts[2]).size == (2048, 9)
            assert "in a bucket" in parts[3]["text"]
            for each in s3.client.list_objects_v2(Bucket=BUCKET)["Contents"]:
                s3.client.delete_object(Bucket=BUCKET, Key=each["Key"])
            # whether they are there was asked just now, so the loss is noticed when they are sent
            problem = assert_problem(there.ask(content="Go on"), 409)
            assert problem["code"] == "attachment_unreadable"
            omitted = there.reply(content="Go on")["omitted_attachments"]
            assert {each["reason"] for each in omitted} == {"lost"}
            answer = there.ask(content=None, attachment_ids=[draft(there)])
            assert answer.status_code == 201, "An upload brings lost bytes back."


# -- preparing ------------------------------------------------------------------------------------------------


def test_requests_that_prepare_files_are_limited(chat: Chat, bob: Api) -> None:
    wide, paper = draft(chat, picture((2100, 10), seed=7)), draft(chat, pdf_of("Limits"), "a.pdf")
    own = [preparing_slots.take(chat.api.user_id) for _ in range(MAX_PREPARING_PER_USER)]
    try:
        for each in (wide, paper):
            problem = assert_problem(chat.ask(attachment_ids=[each]), 429)
            assert problem["code"] == "too_many_requests"
        chat.reply(content="One that is sent as it is", attachment_ids=[draft(chat)])
    finally:
        for slot in own:
            slot.release()
    others = [preparing_slots.take() for _ in range(MAX_PREPARING)]
    try:
        assert_problem(chat.ask(attachment_ids=[wide]), 503)
    finally:
        for slot in others:
            slot.release()
    chat.reply(content="Look", attachment_ids=[wide, paper])
    with preparing_slots.take(chat.api.user_id), preparing_slots.take(chat.api.user_id):
        chat.reply(content="What was prepared is kept")


def test_preparing_ends_after_a_time_and_goes_on_with_the_next_request(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [draft(chat, picture((2100, 10), seed=seed)) for seed in (11, 12, 13)]
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "LONGEST_S", -1.0)
        for _ in ids[1:]:  # each prepares one more
            assert_problem(chat.ask(attachment_ids=ids), 503)
        chat.reply(attachment_ids=ids)
    assert len(sent(chat)[0]) == 4


def test_an_image_that_can_not_be_decoded_is_tried_once(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = draft(chat, PNG[:200] + bytes(50), "damaged.png")
    refused(chat, 422, "attachment_refused", "damaged", attachment_ids=[damaged])
    monkeypatch.setattr(preparing, "preparing_slots", Slots(0, full="None."))
    refused(chat, 422, "attachment_refused", "damaged", attachment_ids=[damaged])
