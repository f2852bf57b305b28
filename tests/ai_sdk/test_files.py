"""Files in chats: sent as data: URLs, stored once, and shown by links that a page can use."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.ai_sdk.chatting import UiChat, refused
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream
from tests.support.tables import owned_rows
from tests.support.uploads import names_of

# one pixel
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
UNKNOWN = "http://localhost/chat/attachments/019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071/content"
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def file_part(url: str = DATA_URL, media_type: str = "image/png", **fields: Any) -> dict[str, Any]:
    return {"type": "file", "mediaType": media_type, "url": url, **fields}


def with_files(*parts: Any, id: str = "u") -> dict[str, Any]:
    return {
        "id": id,
        "role": "user",
        "parts": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts],
    }


def files_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in message["parts"] if part["type"] == "file"]


def sent_images(page: UiChat, index: int = -1) -> list[str]:
    """The images that the model got, of all messages."""
    contents = [message["content"] for message in page.sent[index].json["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def test_a_picture_is_stored_sent_and_shown(page: UiChat, app: Flask) -> None:
    page.messages.append(with_files("What is this?", file_part(filename="cat.png"), "Be brief."))
    page.receive(page.post())
    assert sent_images(page) == [DATA_URL]
    [shown, _] = page.reload()["messages"]
    assert [part["type"] for part in shown["parts"]] == ["text", "file", "text"]
    [part] = files_of(shown)
    assert (part["mediaType"], part["filename"]) == ("image/png", "cat.png")
    assert part["url"].startswith("http://localhost/chat/attachments/")
    picture = Api(app).get(part["url"].removeprefix("http://localhost"))
    assert (picture.status_code, picture.get_data()) == (200, PNG)
    assert len(names_of(app, page.api)) == 1
    assert owned_rows(app, page.api.user_id)["attachment_drafts"] == 0
    page.ask("And now?")  # the picture goes with the history
    assert sent_images(page) == [DATA_URL]


def test_a_file_without_words(page: UiChat) -> None:
    page.messages.append(with_files(file_part()))
    page.receive(page.post())
    assert sent_images(page) == [DATA_URL]
    assert files_of(page.reload()["messages"][0])[0]["filename"] == "image.png"


def test_a_text_file_is_text_for_the_model(page: UiChat) -> None:
    page.messages.append(
        with_files("Read", file_part("data:text/plain,caf%C3%A9", "text/plain", filename="a.txt"))
    )
    page.receive(page.post())
    assert "café" in str(page.said_to_model()[-1][1])


def test_editing_a_message_keeps_its_file(page: UiChat, app: Flask) -> None:
    page.messages.append(with_files("First", file_part()))
    page.receive(page.post())
    [part] = files_of(page.reload()["messages"][0])
    page.messages = [with_files("Instead", part)]  # by the link that the page has of it
    page.receive(page.post(messageId="u"))
    assert sent_images(page) == [DATA_URL]
    shown = page.reload()["messages"][0]
    assert files_of(shown)[0]["filename"] == part["filename"]
    assert len(names_of(app, page.api)) == 1
    page.messages = [with_files("Instead", file_part())]  # the same content, sent again
    page.receive(page.post())
    assert len(page.stored("all")) == 4
    page.messages = [with_files("Instead")]  # without it
    page.receive(page.post(messageId="u"))
    assert files_of(page.reload()["messages"][0]) == []
    assert len(page.stored("all")) == 6


def test_an_address_of_a_picture_is_handed_on_and_not_fetched(page: UiChat) -> None:
    page.messages.append(with_files("See", file_part("https://pics.example/cat.png")))
    page.receive(page.post())
    assert sent_images(page) == ["https://pics.example/cat.png"]
    assert files_of(page.reload()["messages"][0]) == [file_part("https://pics.example/cat.png")]
    page.messages.pop()
    page.receive(page.post())  # sent again
    assert len(page.stored("all")) == 2


def test_a_request_may_be_larger_where_files_are_in_it(page: UiChat) -> None:
    content = base64.b64encode(b"a line of a text\n" * 400_000).decode()  # 9 MB as Base64
    page.messages.append(with_files("Read", file_part(f"data:text/plain;base64,{content}", "text/plain")))
    refused(page.post(), 422, "can't be sent")  # of the model, not of the body
    small = page.api.post("/chat/messages", {"conversation_id": page.id, "role": "user", "content": content})
    assert small.status_code == 413


@pytest.mark.parametrize(
    ("part", "status", "words"),
    [
        (file_part("data:image/png;base64,%%%"), 400, "Base64"),
        (file_part("data:image/png;base64,"), 400, "empty"),
        (file_part("data:nothing"), 400, "parts[1].url"),
        (file_part("ftp://a/b"), 400, "https:"),
        (file_part("http://pics.example/cat.png"), 400, "https:"),
        (file_part(""), 400, "parts[1].url"),
        ({"type": "file", "url": DATA_URL}, 400, "parts[1].mediaType"),
        (file_part(filename=7), 400, "parts[1].filename"),
        (
            file_part("http://localhost/chat/attachments/019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071/content"),
            404,
            "no such file",
        ),
        (file_part("data:application/zip;base64,UEsDBAoAAAAAAA==", "application/zip"), 422, "can't be sent"),
    ],
)
def test_what_is_no_file_is_refused_and_leaves_nothing(
    page: UiChat, app: Flask, part: dict[str, Any], status: int, words: str
) -> None:
    page.messages.append(with_files("Look", part))
    refused(page.post(), status, words)
    assert page.api.get("/chat/conversations").get_json() == []
    assert owned_rows(app, page.api.user_id)["attachment_drafts"] == 0


def test_nobody_elses_file_can_be_named(
    page: UiChat, make_user: Callable[..., Api], provider: ScriptedProvider
) -> None:
    page.messages.append(with_files("Mine", file_part()))
    page.receive(page.post())
    [part] = files_of(page.reload()["messages"][0])
    stranger = UiChat.open(make_user(), provider)
    stranger.messages.append(with_files("Theirs", part))
    refused(stranger.post(), 404, "no such file")


def test_a_failed_reply_keeps_the_file(page: UiChat) -> None:
    page.script(error_answer(500, "out of order"), openai_stream("A cat."))
    page.messages.append(with_files("What?", file_part()))
    refused(page.post(), 502, "out of order")
    page.receive(page.post())
    assert sent_images(page) == [DATA_URL]
    assert len(page.stored("all")) == 2


def test_more_files_than_a_message_may_have(page: UiChat) -> None:
    page.messages.append(with_files(*[file_part()] * 51))
    refused(page.post(), 400, "more than 50 files")
