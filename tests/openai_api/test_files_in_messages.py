"""Pictures, documents and recordings in messages."""

import base64
import io
import uuid
import wave
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from PIL import Image

from chat_api.files import removal
from tests.openai_api.door import COMPLETIONS, HEADER, Door, assistant, refused, user
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream
from tests.support.uploads import uploaded


def image(colour: str = "red", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, kind)
    return out.getvalue()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def recording() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0" * 800)
    return out.getvalue()


RED, BLUE, WAV = image(), image("blue"), recording()
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def picture(content: bytes = RED, media_type: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(content, media_type), **fields}}


def document(content: bytes, name: str = "a.pdf", media_type: str = "application/pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data_url(content, media_type), "filename": name}}


def spoken(content: bytes = WAV) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    found = Door.open(ada, provider, name="Scripted")
    found.script(*(openai_stream(f"Reply {number}") for number in range(1, 8)))
    return found


@pytest.fixture
def reading(door: Door) -> Door:
    """A provider that takes documents and recordings, too."""
    path = f"/chat/llm-providers/{door.provider_id}"
    takes = {"images": True, "pdfs": True, "audio": True}
    assert door.api.patch(path, {"request_options": takes}).status_code == 200
    return door


def contents(door: Door, number: int = -1) -> list[Any]:
    return [message["content"] for message in door.sent[number].json["messages"]]


def messages_of(door: Door, conversation_id: str) -> list[dict[str, Any]]:
    return door.api.get(f"/chat/conversations/{conversation_id}/messages").get_json()


def attachments_of(door: Door, message: dict[str, Any]) -> list[dict[str, Any]]:
    return door.api.get(f"/chat/messages/{message['id']}/attachments").get_json()


@pytest.mark.parametrize(
    "part",
    [
        picture(),
        picture(detail="high"),
        {"type": "image_url", "image_url": data_url(RED)},
        {"type": "input_image", "image_url": data_url(RED)},
        picture(media_type="image/jpeg"),  # what it is called is not what it is
        {"type": "image_url", "image_url": {"url": data_url(RED).rstrip("=")}},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{quote(data_url(RED).partition(',')[2], '')}"},
        },
    ],
)
def test_a_picture_reaches_the_model_byte_by_byte(door: Door, part: dict[str, Any]) -> None:
    conversation_id, _ = door.talk(user([text("What is"), part, text("this?")]))
    sent = {"type": "image_url", "image_url": {"url": data_url(RED)}}
    assert contents(door) == [[text("What is"), sent, text("this?")]]
    asked, _ = messages_of(door, conversation_id)
    assert asked["content"] == "What is\n\nthis?"
    [attachment] = attachments_of(door, asked)
    assert (attachment["file_type"], attachment["file_name"]) == ("image/png", "image.png")
    assert [part["type"] for part in asked["parts"]] == ["text", "attachment", "text"]
    assert door.api.get(attachment["file_path"]).get_data() == RED


def test_a_history_with_pictures_is_recognised(door: Door) -> None:
    history = [user([picture()])]
    for number in range(1, 4):
        conversation_id, said = door.talk(*history)
        assert said == f"Reply {number}"
        history += [assistant(said), user([text("And"), picture(BLUE)] if number == 1 else "Why?")]
    assert len(door.conversations()) == 1
    sent = contents(door)
    assert sent[0] == [picture()]
    assert sent[2] == [text("And"), picture(BLUE)]
    assert [len(attachments_of(door, each)) for each in messages_of(door, conversation_id)] == [
        1,
        0,
        1,
        0,
        0,
        0,
    ]
    # another picture is another history
    door.talk(user([picture(BLUE)]), *history[1:3])
    assert len(door.conversations()) == 2


def test_a_history_of_chat_with_an_upload_is_continued(door: Door) -> None:
    draft = uploaded(door.api, RED, name="cat.png", claimed="image/png")
    conversation = door.api.conversation()["id"]
    parts = [{"type": "text", "text": "What is this?"}, {"type": "attachment", "attachment_id": draft["id"]}]
    first = door.api.made(
        "/chat/completions",
        {
            "conversation_id": conversation,
            "provider_id": door.provider_id,
            "model": door.model,
            "content": parts,
        },
    )["message"]["content"]
    found, _ = door.talk(user([text("What is this?"), picture()]), assistant(first), user("Sure?"))
    assert found == conversation


def test_a_picture_at_an_address_is_handed_on(door: Door) -> None:
    url = "https://pictures.example/cat.jpg?size=9"
    link = {"type": "image_url", "image_url": {"url": url}}
    history = [user([text("What is this?"), link])]
    conversation_id, said = door.talk(*history)
    assert contents(door) == [[text("What is this?"), link]]
    again, _ = door.talk(*history, assistant(said), user("Sure?"))
    assert again == conversation_id
    assert contents(door)[0] == [text("What is this?"), link]
    [attachment] = attachments_of(door, messages_of(door, conversation_id)[0])
    assert (attachment["file_path"], attachment["file_type"]) == (url, "image/jpeg")


def test_a_label_of_chat_is_not_handed_on(door: Door) -> None:
    """It is the client's own; only what a content names as a picture is."""
    conversation = door.api.conversation()["id"]
    message = door.api.message(conversation, "See it?")
    door.api.attachment(message["id"], "https://pictures.example/cat.png")
    body = {"conversation_id": conversation, "provider_id": door.provider_id, "model": door.model}
    door.api.made("/chat/completions", body)
    assert contents(door) == ["See it?"]


def test_recordings_and_documents(reading: Door) -> None:
    door = reading
    door.talk(user([spoken(), document(PDF), document(b"one,two", "a.csv", "text/csv")]))
    heard, read, written = contents(door)[0]
    assert heard == spoken()
    assert read == {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": data_url(PDF, "application/pdf")},
    }
    assert 'File "a.csv" (text/csv)' in written["text"]
    assert "one,two" in written["text"]


def test_a_file_by_its_id(door: Door, bob: Api) -> None:
    draft = uploaded(door.api, RED, name="cat.png", claimed="image/png")
    named = f"file-{draft['id'].replace('-', '')}"
    part = {"type": "file", "file": {"file_id": named}}
    _, said = door.talk(user([part]))
    assert contents(door) == [[picture()]]
    door.talk(user([part]), assistant(said), user("Again?"))
    assert len(door.conversations()) == 1
    theirs = uploaded(bob, RED, name="cat.png", claimed="image/png")["id"]
    for unknown in (theirs, str(uuid.uuid4()), "file-none"):
        refused_part = {"type": "file", "file": {"file_id": unknown}}
        assert door.ask(user([refused_part])).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_stored_of_what_is_not_to_be_stored(reading: Door, stream: bool) -> None:
    door = reading
    link = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.jpg"}}
    parts = [
        text("These?"),
        picture(),
        link,
        spoken(),
        document(PDF),
        document(b"one,two", "a.csv", "text/csv"),
    ]
    response = door.ask(user(parts), store=False, stream=stream)
    assert response.status_code == 200
    response.get_data()
    sent = contents(door)[0]
    assert sent[:5] == [*parts[:4], parts[4]]
    assert "one,two" in sent[5]["text"]
    assert door.api.get("/chat/usage").get_json()["file_bytes"]["used"] == 0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "http": ({"type": "image_url", "image_url": {"url": "http://x.example/a.png"}}, "image_url.url"),
    "path": ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "image_url.url"),
    "long": ({"type": "image_url", "image_url": {"url": "https://x.example/" + "a" * 5000}}, "image_url.url"),
    "no image": ({"type": "image_url", "image_url": {"url": data_url(b"text", "text/plain")}}, "image_url.url"),
    "no URL": ({"type": "image_url", "image_url": {}}, "image_url.url"),
    "broken": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}, "image_url.url"),
    "empty": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "image_url.url"),
    "no comma": ({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}, "image_url.url"),
    "umlaut": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,ä"}}, "image_url.url"),
    "format": ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "ogg"}}, "input_audio.format"),
    "no sound": (spoken(b"some text"), "input_audio.data"),
    "no data": ({"type": "input_audio", "input_audio": {"format": "wav"}}, "input_audio.data"),
    "no file": ({"type": "file"}, "file.file_data"),
    "file link": ({"type": "input_file", "file_url": "https://x.example/a.pdf"}, "file_url"),
    "name": ({"type": "file", "file": {"file_data": "AAAA", "filename": 5}}, "file.filename"),
    "kind": ({"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}}, "type"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(door: Door, name: str) -> None:
    part, at = REFUSED[name]
    refused(door.ask(user([text("x"), part])), 400, "invalid_value", f"messages[0].content[1].{at}")
    assert door.conversations() == []


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_only_users_send_files(door: Door, role: str) -> None:
    message = {"role": role, "content": [picture()], "tool_call_id": "c"}
    refused(door.ask(user("x"), message), 400, "invalid_value", "messages[1].content[0].type")


@pytest.mark.parametrize("store", [True, False])
def test_a_model_that_takes_no_pictures(app: Flask, door: Door, store: bool) -> None:
    path = f"/chat/llm-providers/{door.provider_id}"
    assert door.api.patch(path, {"request_options": {"images": False}}).status_code == 200
    refused(door.ask(user([picture()]), store=store), 400, "attachment_refused")
    assert door.conversations() == []
    with app.app_context():
        while removal.remove_released_and_commit():
            pass
    assert door.api.get("/chat/usage").get_json()["file_bytes"]["used"] == 0
    # in what was said before, a line stands for it
    door.ask(user([picture()]), assistant("A cat."), user("Sure?"), store=store)
    if store:
        assert "image.png" in contents(door)[0]


def test_a_refused_reply_keeps_the_picture_of_its_question(door: Door) -> None:
    door.script(error_answer(500, "out of order"), openai_stream("Now."))
    body = {"model": door.name, "messages": [user([picture()])]}
    for count in ("0", "1"):
        response = door.api.post(COMPLETIONS, body, headers={"X-Stainless-Retry-Count": count})
    assert response.status_code == 200
    assert contents(door) == [[picture()]]
    [conversation] = door.conversations()
    assert [each["role"] for each in messages_of(door, conversation["id"])] == ["user", "assistant"]


def test_a_named_conversation_gets_pictures(door: Door) -> None:
    named = door.ask(user("Hi")).headers[HEADER]
    response = door.ask(user([text("This?"), picture()]), headers={HEADER: named})
    assert response.headers[HEADER] == named
    assert contents(door) == ["Hi", "Reply 1", [text("This?"), picture()]]


def test_pictures_for_claude(ada: Api, provider: ScriptedProvider) -> None:
    door = Door.open(ada, provider, name="Claude", api_format="anthropic")
    link = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.jpg"}}
    door.answered(user([text("These?"), picture(), link]))
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(RED).decode()}
    assert contents(door)[0] == [
        text("These?"),
        {"type": "image", "source": source},
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.jpg"}},
    ]


@pytest.mark.parametrize("store", [True, False])
def test_pictures_in_responses(door: Door, store: bool) -> None:
    parts = [{"type": "input_text", "text": "This?"}, {"type": "input_image", "image_url": data_url(RED)}]
    body = {"model": door.name, "input": [{"role": "user", "content": parts}], "store": store}
    first = door.api.post("/v1/responses", body)
    assert first.status_code == 200, first.get_data(as_text=True)
    assert contents(door) == [[text("This?"), picture()]]
    if store:
        again = {"model": door.name, "input": "Sure?", "previous_response_id": first.get_json()["id"]}
        assert door.api.post("/v1/responses", again).status_code == 200
        assert contents(door) == [[text("This?"), picture()], "Reply 1", "Sure?"]


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/responses"])
def test_a_request_has_room_for_files(reading: Door, path: str) -> None:
    large = PDF + bytes(7 * 2**20)  # as Base64 more than MAX_BODY_BYTES
    if path == COMPLETIONS:
        body: dict[str, Any] = {"messages": [user([document(large)])]}
    else:
        part = {"type": "input_file", "file_data": data_url(large, "application/pdf"), "filename": "a.pdf"}
        body = {"input": [{"role": "user", "content": [part]}]}
    response = reading.api.post(path, {"model": reading.name, **body})
    assert response.status_code == 200, response.get_data(as_text=True)[:500]
    sent = contents(reading)[0][0]["file"]["file_data"]
    assert base64.b64decode(sent.partition(",")[2]) == large
    too_large = b" " * (20 * 2**20 + 1)
    response = reading.api.post(path, data=too_large, content_type="application/json")
    refused(response, 413, "payload_too_large")
