"""Pictures, recordings and videos in a reply become attachments of its message."""

import base64
import hashlib
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chat_api.completions import reply_files
from chat_api.files import removal
from tests.completions.chat import Chat, run_sql, wait_for
from tests.support.api import Api
from tests.support.provider import (
    CUT,
    DONE,
    STALL,
    Pause,
    Reply,
    ScriptedProvider,
    json_answer,
    openai_chunk,
    openai_stream,
    sse,
)
from tests.support.uploads import PNG, names_of

MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256)) * 10
WAV = b"RIFF\x24\x08\x00\x00WAVEfmt " + bytes(range(256)) * 8
PCM = b"\x00\x00\x01\x00\xff\xff" * 1000


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def picture(content: bytes = PNG, media_type: str = "image/png") -> dict[str, Any]:
    """As OpenRouter, LiteLLM and others send one in `images`."""
    url = f"data:{media_type};base64,{encoded(content)}"
    return {"type": "image_url", "image_url": {"url": url}, "index": 0}


def png(number: int, size: int = 1000) -> bytes:
    """A picture unlike others, as far as anybody looks."""
    return PNG + struct.pack("<I", number) * (size // 4)


def attachments_of(user: Api, message_id: str) -> list[dict[str, Any]]:
    return user.get(f"/chat/messages/{message_id}/attachments").get_json()


def contents_of(user: Api, message_id: str) -> list[bytes]:
    return [content_of(user, each["file_path"]) for each in attachments_of(user, message_id)]


def content_of(user: Api, path: str) -> bytes:
    with user.get(path) as response:
        return response.get_data()


def test_picture_between_texts(chat: Chat) -> None:
    chat.script(
        openai_stream("A cat", ":", openai_chunk({"images": [picture()]}), "And ", "a dog:",
                      openai_chunk({"content": "", "images": [picture(png(1))]}))
    )  # fmt: skip
    stream = chat.stream()
    events = stream.rest()
    assert [event.name for event in events if event.name != "completion.delta"] == [
        "completion.started", "completion.attachment", "completion.attachment", "completion.completed",
    ]  # fmt: skip
    first, second = (event.content for event in events if event.name == "completion.attachment")
    assert first == {
        "id": first["id"],
        "file_type": "image/png",
        "file_name": "image-1.png",
        "size_bytes": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "file_path": f"/chat/attachments/{first['id']}/content",
    }
    assert second["file_name"] == "image-2.png"
    message = stream.end.content["completion"]["message"]
    assert message["content"] == "A cat:\n\nAnd a dog:"
    assert message["parts"] == [
        {"type": "text", "text": "A cat:"},
        {"type": "attachment", "attachment_id": first["id"]},
        {"type": "text", "text": "And a dog:"},
        {"type": "attachment", "attachment_id": second["id"]},
    ]
    assert chat.get(stream.id)["warnings"] == []
    stored = attachments_of(chat.api, message["id"])
    assert [each["id"] for each in stored] == [first["id"], second["id"]]
    assert contents_of(chat.api, message["id"]) == [PNG, png(1)]
    assert chat.api.get(f"/chat/messages/{message['id']}").get_json()["parts"] == message["parts"]
    chat.api.attachment(message["id"])
    assert [each["id"] for each in attachments_of(chat.api, message["id"])[:2]] == [first["id"], second["id"]]


def test_replay_from_any_event(chat: Chat, other_app: Flask) -> None:
    pieces: list[str | bytes] = [
        "One",
        openai_chunk({"images": [picture()]}),
        "two",
        openai_chunk({"images": [picture(png(1))]}),
    ]
    chat.script(openai_stream(*pieces))
    live = chat.stream()
    live.rest()
    for there in (chat, chat.on(other_app)):
        for seen in live.seen[:-1]:
            again = there.events(live.id, last=seen.id)
            again.rest()
            expected = [event for event in live.seen if event.id > seen.id]
            names = "completion.attachment"
            assert [e for e in again.seen if e.name == names] == [e for e in expected if e.name == names]
            assert again.end == live.end


def test_replay_after_a_picture_was_deleted(chat: Chat) -> None:
    chat.script(openai_stream("One", *(openai_chunk({"images": [picture(png(n))]}) for n in (1, 2)), "three"))
    live = chat.stream()
    live.rest()
    gone, left = (event for event in live.seen if event.name == "completion.attachment")
    assert chat.api.delete(f"/chat/attachments/{gone.content['id']}").status_code == 204
    again = chat.events(live.id)
    again.rest()
    assert [event for event in again.seen if event.name == "completion.attachment"] == [left]
    assert (again.text, again.end.id) == ("One\n\nthree", live.end.id)


def test_picture_can_be_downloaded_while_the_reply_goes_on(chat: Chat, other_app: Flask) -> None:
    goes_on = threading.Event()
    chat.script(openai_stream("See:", openai_chunk({"images": [picture()]}), goes_on, "done"))
    stream = chat.stream()
    while (event := stream.next()).name != "completion.attachment":
        pass
    path = event.content["file_path"]
    assert content_of(chat.api, path) == PNG
    elsewhere = chat.on(other_app)
    wait_for(lambda: "parts" in elsewhere.get(stream.id)["message"])  # a checkpoint has it
    assert elsewhere.get(stream.id)["message"]["parts"][-1]["attachment_id"] == event.content["id"]
    assert chat.api.get(f"/chat/attachments/{event.content['id']}").get_json()["message_id"] is None
    goes_on.set()
    stream.rest()
    attachment = chat.api.get(f"/chat/attachments/{event.content['id']}").get_json()
    assert attachment["message_id"] == stream.end.content["completion"]["message"]["id"]
    assert "expires_at" not in attachment


URL = picture()["image_url"]["url"]
FORMS: dict[str, dict[str, Any]] = {
    "message.images": {"content": "", "images": [picture()]},
    "images of URLs": {"content": None, "images": [URL]},
    "images of b64_json": {"content": "", "images": [{"b64_json": encoded(PNG)}]},
    "content of image_url": {"content": [picture()]},
    "content of image_url as text": {"content": [{"type": "image_url", "image_url": URL}]},
    "content of output_image": {"content": [{"type": "output_image", "image_url": URL}]},
    "content of image": {"content": [{"type": "image", "image": {"base64": encoded(PNG)}}]},
    "content of a source": {
        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}}]
    },
    "inline_data": {"content": [{"inline_data": {"mime_type": "image/png", "data": encoded(PNG)}}]},
    "inlineData": {"content": [{"inlineData": {"mimeType": "image/png", "data": encoded(PNG)}}]},
    "image": {"content": "", "image": {"url": URL}},
    "Markdown": {"content": f"![image]({URL})"},
    "a wrong type": {"content": "", "images": [picture(PNG, "image/webp")]},
    "without padding, for URLs": {
        "content": "", "images": [URL.rstrip("=").replace("+", "-").replace("/", "_").replace("image_png", "image/png")]
    },
    "in lines": {"content": "", "images": [f"data:image/png;base64,\n{base64.encodebytes(PNG).decode()}"]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
def test_form(chat: Chat, form: str, is_streamed: bool) -> None:
    message = FORMS[form]
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    chat.script(
        openai_stream(openai_chunk({"role": "assistant", **message}))
        if is_streamed
        else json_answer({"object": "chat.completion", "choices": [choice]})
    )
    completion = chat.reply()
    assert (completion["status"], completion["warnings"]) == ("completed", [])
    assert completion["message"]["content"] == ""
    assert contents_of(chat.api, completion["message"]["id"]) == [PNG]


def test_picture_that_comes_again_with_the_end_is_kept_once(chat: Chat) -> None:
    end = {"index": 0, "delta": {"images": [picture()]}, "finish_reason": "stop"}
    chat.script(Reply(openai_chunk({"content": "See", "images": [picture()]}), sse({"choices": [end]}), DONE))
    assert contents_of(chat.api, chat.reply()["message"]["id"]) == [PNG]


def test_picture_of_claude(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, api_format="anthropic")
    source = {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}
    content = [{"type": "text", "text": "See:"}, {"type": "image", "source": source}]
    chat.script(
        json_answer({"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"})
    )
    completion = chat.reply()
    assert contents_of(eve, completion["message"]["id"]) == [PNG]
    assert completion["message"]["parts"][0] == {"type": "text", "text": "See:"}


def test_same_picture_in_two_replies_is_stored_once(app: Flask, chat: Chat) -> None:
    chat.script(openai_stream(openai_chunk({"images": [picture()]})))
    first, second = chat.reply(), chat.reply()
    assert contents_of(chat.api, first["message"]["id"]) == contents_of(chat.api, second["message"]["id"])
    assert len(names_of(app, chat.api)) == 1


# -- recordings ----------------------------------------------------------------------------------------------


def recording(content: bytes, transcript: str, step: int = 1000) -> list[bytes]:
    """As OpenAI streams one: id, transcript, Base64 in pieces, when it expires."""
    pieces: list[dict[str, Any]] = [{"id": "audio_1", "transcript": transcript[:3]}]
    for begin in range(0, len(content), step):
        pieces.append({"id": "audio_1", "data": encoded(content[begin : begin + step])})
    pieces += [{"transcript": transcript[3:]}, {"expires_at": 1_800_000_000}]
    return [openai_chunk({"content": None, "audio": piece}) for piece in pieces]


@pytest.mark.parametrize(
    ("content", "file_type", "name"),
    [(MP3, "audio/mpeg", "audio-1.mp3"), (WAV, "audio/wav", "audio-1.wav")],
)
def test_recording_in_pieces(chat: Chat, content: bytes, file_type: str, name: str) -> None:
    chat.script(openai_stream(*recording(content, "Hello there")))
    completion = chat.reply()
    message = completion["message"]
    assert (message["content"], completion["warnings"]) == ("Hello there", [])
    [stored] = attachments_of(chat.api, message["id"])
    assert (stored["file_type"], stored["file_name"]) == (file_type, name)
    assert contents_of(chat.api, message["id"]) == [content]
    assert [part["type"] for part in message["parts"]] == ["text", "attachment"]


@pytest.mark.parametrize("step", [1, 1000, 1002, 4096])
def test_bare_samples_become_a_file_that_plays(chat: Chat, step: int) -> None:
    content = PCM[: 60 if step == 1 else None]
    chat.script(openai_stream(*recording(content, "Hello there", step)))
    message = chat.reply()["message"]
    [stored] = contents_of(chat.api, message["id"])
    assert stored[44:] == content
    rate, bytes_a_second, frame_bytes, bits = struct.unpack("<IIHH", stored[24:36])
    assert (stored[:4], stored[8:16], rate, bytes_a_second, frame_bytes, bits) == (
        b"RIFF", b"WAVEfmt ", 24_000, 48_000, 2, 16,
    )  # fmt: skip
    assert struct.unpack("<I", stored[4:8])[0] == len(stored) - 8
    assert struct.unpack("<I", stored[40:44])[0] == len(content)
    assert attachments_of(chat.api, message["id"])[0]["file_type"] == "audio/wav"


def test_samples_at_another_rate(chat: Chat) -> None:
    part = {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=16000", "data": encoded(PCM)}}
    chat.script(openai_stream(openai_chunk({"content": [part]})))
    [stored] = contents_of(chat.api, chat.reply()["message"]["id"])
    assert (struct.unpack("<I", stored[24:28])[0], stored[44:]) == (16_000, PCM)


def test_whole_recording_with_a_text_beside_it(chat: Chat) -> None:
    audio = {"id": "a", "data": encoded(MP3), "transcript": "Hello", "expires_at": 1_800_000_000}
    message = {"role": "assistant", "content": "Hello!", "audio": audio}
    chat.script(json_answer({"choices": [{"message": message, "finish_reason": "stop"}]}))
    stored = chat.reply()["message"]
    assert stored["content"] == "Hello!", "The transcript is for replies without a text."
    assert contents_of(chat.api, stored["id"]) == [MP3]


# -- large ones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["delta", "message", "Markdown"])
@pytest.mark.parametrize("escape", [None, ("/", "\\/"), ("+", "\\u002B")], ids=["plain", "slash", "plus"])
def test_ten_megabytes_in_one_event(chat: Chat, form: str, escape: tuple[str, str] | None) -> None:
    content = PNG + bytes(range(256)) * 40_000
    fields: dict[str, Any] = {"content": "", "images": [picture(content)]}
    if form == "Markdown":
        fields = {"content": f"See ![a](data:image/png;base64,{encoded(content)}) it"}
    choice = {"index": 0, "message" if form == "message" else "delta": fields, "finish_reason": None}
    text = json.dumps({"choices": [choice]})
    if escape:
        head, _, data = text.partition("base64,")
        text = f"{head}base64,{data.replace(*escape)}"
    chat.script(openai_stream(f"data: {text}\n\n".encode()))
    completion = chat.reply()
    assert completion["warnings"] == []
    assert contents_of(chat.api, completion["message"]["id"]) == [content]
    assert completion["message"]["content"] == ("See  it" if form == "Markdown" else "")


def test_a_large_one_in_json(chat: Chat) -> None:
    contents = [png(number, 1_500_000) for number in range(8)]
    message = {"role": "assistant", "content": "Eight.", "images": [picture(content) for content in contents]}
    chat.script(json_answer({"choices": [{"message": message, "finish_reason": "stop"}]}))
    completion = chat.reply()
    assert completion["warnings"] == []
    assert contents_of(chat.api, completion["message"]["id"]) == contents


def test_a_long_text_of_letters_is_no_file(chat: Chat) -> None:
    text = "a" * 1_000_000
    chat.script(openai_stream(text))
    assert chat.reply()["message"]["content"] == text
    chat.script(openai_stream("b" * 3_000_000))
    completion = chat.reply()
    assert (completion["message"]["content"], completion["finish_reason"]) == ("b" * 1024 * 1024, "length")


# -- what is not kept ----------------------------------------------------------------------------------------

REMOTE = "https://images.example.com/a.png?sig=1"


def test_nothing_is_fetched(chat: Chat, provider: ScriptedProvider) -> None:
    own = {"type": "image_url", "image_url": {"url": f"{provider.origin}/secret.png"}}
    chat.script(
        openai_stream("See:", openai_chunk({"images": [own, {"image_url": REMOTE}]})),
        openai_stream(openai_chunk({"content": [{"type": "video_url", "video_url": {"url": REMOTE}}]})),
    )
    completion = chat.reply()
    links = f"[image]({provider.origin}/secret.png)\n\n[image]({REMOTE})"
    assert completion["message"]["content"] == f"See:\n\n{links}"
    assert attachments_of(chat.api, completion["message"]["id"]) == []
    assert chat.reply()["message"]["content"] == f"[video]({REMOTE})"
    assert not [request for request in provider.requests if "secret" in request.path]


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (picture(b"<html><script>alert(1)</script></html>" * 5), reply_files.UNKNOWN_TYPE),
        (picture(b"MZ" + bytes(1000)), reply_files.UNKNOWN_TYPE),
        ({"image_url": {"url": "data:image/png;base64,####"}}, reply_files.UNKNOWN_TYPE),
    ],
)
def test_what_is_no_picture_is_left_out(app: Flask, chat: Chat, image: dict[str, Any], why: str) -> None:
    chat.script(
        openai_stream("See:", openai_chunk({"images": [image]})),
        openai_stream(openai_chunk({"images": [image]})),
    )
    completion = chat.reply()
    warning = reply_files.LEFT_OUT.format(name="An image", why=why)
    assert (completion["warnings"], completion["message"]["content"]) == ([warning], "See:")
    assert "parts" not in completion["message"]
    assert chat.reply()["message"]["content"] == f"[{warning}]", "No reply is empty without a word."
    assert names_of(app, chat.api) == set()


@pytest.mark.parametrize(
    "url", ["data:image/png,abc", "file:///etc/passwd", "", "data:image/svg+xml;utf8,<svg/>"]
)
def test_picture_without_content(chat: Chat, url: str) -> None:
    chat.script(openai_stream("See:", openai_chunk({"images": [{"image_url": {"url": url}}]})))
    completion = chat.reply()
    assert completion["warnings"] == [
        "An image that the model made came without its content, so it is not kept."
    ]
    assert completion["message"]["content"] == "See:"


def test_limit_of_bytes(monkeypatch: pytest.MonkeyPatch, app: Flask, chat: Chat) -> None:
    monkeypatch.setitem(app.config, "MAX_REPLY_FILE_BYTES", 2_000_000)
    images = [
        picture(png(number, size)) for number, size in enumerate((900_000, 1_500_000, 900_000, 900_000))
    ]
    chat.script(openai_stream("See:", *(openai_chunk({"images": [image]}) for image in images)))
    completion = chat.reply()
    assert completion["warnings"] == [reply_files.LEFT_OUT.format(name="An image", why="it is too large")]
    sizes = [each["size_bytes"] for each in attachments_of(chat.api, completion["message"]["id"])]
    assert sizes == [len(png(0, 900_000))] * 2
    assert len(names_of(app, chat.api)) == 2


def test_limit_of_files(chat: Chat) -> None:
    images = [picture(png(number)) for number in range(reply_files.MAX_FILES + 3)]
    chat.script(openai_stream(openai_chunk({"images": images})))
    completion = chat.reply()
    assert completion["warnings"] == [reply_files.LEFT_OUT.format(name="An image", why=reply_files.TOO_MANY)]
    assert len(completion["message"]["parts"]) == reply_files.MAX_FILES


@pytest.mark.parametrize(
    ("quota", "limit", "words"),
    [("MAX_FILE_BYTES_PER_USER", 500, "bytes of files"), ("MAX_ATTACHMENTS_PER_USER", 0, "attachments")],
)
def test_full_quota_leaves_the_file_out_and_keeps_the_reply(
    monkeypatch: pytest.MonkeyPatch, app: Flask, chat: Chat, quota: str, limit: int, words: str
) -> None:
    monkeypatch.setitem(app.config, quota, limit)
    chat.script(openai_stream("See:", openai_chunk({"images": [picture(png(1))]}), "ok"))
    completion = chat.reply()
    assert (completion["status"], completion["message"]["content"]) == ("completed", "See:\n\nok")
    [warning] = completion["warnings"]
    assert f"Every user may have at most {limit} {words}" in warning
    assert names_of(app, chat.api) == set()


def test_storage_that_fails_leaves_the_file_out(
    monkeypatch: pytest.MonkeyPatch, app: Flask, chat: Chat
) -> None:
    chat.script(openai_stream("See:", openai_chunk({"images": [picture()]}), "ok"))
    monkeypatch.setattr(app.extensions["chat_api.storage"], "_folder", Path(__file__))
    completion = chat.reply()
    assert completion["message"]["content"] == "See:\n\nok"
    assert completion["status"] == "completed"
    assert len(completion["warnings"]) == 1


# -- replies that do not end well ----------------------------------------------------------------------------


def test_cancelled_reply_keeps_what_was_whole(app: Flask, chat: Chat) -> None:
    half = openai_chunk({"audio": {"data": encoded(MP3[:900])}})
    chat.script(openai_stream("See:", half, openai_chunk({"images": [picture()]}), STALL))
    stream = chat.stream()
    while stream.next().name != "completion.attachment":
        pass
    assert chat.cancel(stream.id).status_code == 200
    stream.rest()
    completion = chat.ended(stream.id)
    assert completion["status"] == "cancelled"
    assert contents_of(chat.api, completion["message"]["id"]) == [PNG]
    assert completion["warnings"] == [
        reply_files.LEFT_OUT.format(name="A recording", why=reply_files.CUT_OFF)
    ]
    assert len(names_of(app, chat.api)) == 1


def test_reply_of_nothing_but_a_picture_that_breaks_off(chat: Chat) -> None:
    chat.script(openai_stream(openai_chunk({"images": [picture()]}), Pause(0.3), CUT))
    completion = chat.ask().get_json()
    [stored] = chat.completions
    assert stored["status"] == "incomplete", completion
    assert contents_of(chat.api, stored["message"]["id"]) == [PNG]


def test_picture_that_is_cut_off(app: Flask, chat: Chat) -> None:
    text = openai_chunk({"images": [picture(png(1, 3_000_000))]})
    chat.script(openai_stream("See:", text[:2_500_000], CUT))
    chat.ask()
    [stored] = chat.completions
    assert (stored["status"], stored["message"]["content"]) == ("incomplete", "See:")
    assert names_of(app, chat.api) == set()


def test_conversation_is_deleted_meanwhile(app: Flask, chat: Chat) -> None:
    goes_on = threading.Event()
    chat.script(openai_stream("See:", openai_chunk({"images": [picture()]}), goes_on, "done"))
    stream = chat.stream()
    while stream.next().name != "completion.attachment":
        pass
    assert chat.api.delete(f"/chat/conversations/{chat.conversation_id}").status_code == 204
    goes_on.set()
    list(stream)
    drafts = "SELECT 1 FROM attachment_drafts WHERE user_id = :user"
    wait_for(lambda: not run_sql(app, drafts, user=chat.api.user_id))
    with app.app_context():
        removal.remove_all_released_and_commit()
    assert names_of(app, chat.api) == set()


def test_account_is_deleted_meanwhile(app: Flask, chat: Chat) -> None:
    goes_on = threading.Event()
    image, later = (openai_chunk({"images": [picture(png(number))]}) for number in (1, 2))
    chat.script(openai_stream("See:", image, goes_on, later, "done"))
    stream = chat.stream()
    while stream.next().name != "completion.attachment":
        pass
    assert chat.api.delete("/auth/me").status_code == 204
    goes_on.set()
    list(stream)
    registry = app.extensions["chat_api.completions"]
    wait_for(lambda: not [run for run in registry.running if run.completion.user_id == chat.api.user_id])

    def is_clean() -> bool:
        with app.app_context():
            removal.remove_all_released_and_commit()
        return names_of(app, chat.api) == set()

    wait_for(is_clean)


def test_a_draft_of_a_reply_that_its_user_takes_is_the_users(chat: Chat) -> None:
    goes_on = threading.Event()
    chat.script(openai_stream("See:", openai_chunk({"images": [picture()]}), goes_on, "done"))
    stream = chat.stream()
    while (event := stream.next()).name != "completion.attachment":
        pass
    elsewhere = chat.api.conversation()["id"]
    message = chat.api.message(elsewhere, attachment_ids=[event.content["id"]])
    goes_on.set()
    stream.rest()
    reply = stream.end.content["completion"]["message"]
    assert (reply["content"], "parts" in reply) == ("See:\n\ndone", False)
    assert contents_of(chat.api, message["id"]) == [PNG]


# -- other workers -------------------------------------------------------------------------------------------


def end_lease(app: Flask, completion_id: str) -> None:
    run_sql(
        app,
        "UPDATE completions SET lease_expires_at = '2020-01-01T00:00:00.000000Z' WHERE id = :id",
        id=completion_id,
    )


def test_reply_that_another_worker_ends_has_its_pictures(app: Flask, other_app: Flask, chat: Chat) -> None:
    goes_on = threading.Event()
    chat.script(
        openai_stream("One", openai_chunk({"images": [picture()]}), goes_on, "two",
                      openai_chunk({"images": [picture(png(1))]}))
    )  # fmt: skip
    stream = chat.stream()
    while (event := stream.next()).name != "completion.attachment":
        pass
    elsewhere = chat.on(other_app)
    wait_for(lambda: "parts" in elsewhere.get(stream.id)["message"])
    app.extensions["chat_api.completions"]._supervisor._due["renew"] = 1e12
    end_lease(app, stream.id)
    taken_over = elsewhere.get(stream.id)
    assert (taken_over["status"], taken_over["finish_reason"]) == ("incomplete", "worker_lost")
    assert contents_of(chat.api, taken_over["message"]["id"]) == [PNG]
    assert taken_over["message"]["parts"][-1]["attachment_id"] == event.content["id"]
    # the worker was only slow: what it has by the end counts
    goes_on.set()
    stream.rest()
    app.extensions["chat_api.completions"]._supervisor._due.pop("renew", None)
    completion = chat.get(stream.id)
    assert completion["status"] == "completed"
    assert completion["message"]["content"] == "One\n\ntwo"
    assert [part["type"] for part in completion["message"]["parts"]] == [
        "text", "attachment", "text", "attachment",
    ]  # fmt: skip
    assert contents_of(chat.api, completion["message"]["id"]) == [PNG, png(1)]
