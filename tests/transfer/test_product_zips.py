"""Zips of ChatGPT and Claude, with the files that their conversations name."""

import base64
import json
from typing import Any

import pytest
from flask import Flask

from chat_api.transfer.formats.assets import Assets
from tests.support.api import Api
from tests.support.tables import owned_rows
from tests.support.uploads import PNG
from tests.transfer.exports import imported, rows_of, zip_of
from tests.transfer.test_chatgpt import conversation, node

JSON, ZIP = "application/json", "application/zip"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)
PDF = b"%PDF-1.4\nhello"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(40)


def picture(pointer: str, **fields: Any) -> dict[str, Any]:
    return {
        "content_type": "image_asset_pointer",
        "asset_pointer": pointer,
        "width": 1,
        "height": 1,
        **fields,
    }


def multimodal(*parts: Any) -> dict[str, Any]:
    return {"content_type": "multimodal_text", "parts": list(parts)}


CHATGPT = conversation(
    node(
        "a", None, multimodal(picture("file-service://file-AbC123"), "What is this?"),
        metadata={"attachments": [{"id": "file-AbC123", "name": "my cat.png", "mime_type": "image/png"},
                                  {"id": "file-Pdf9", "name": "report.pdf", "mime_type": "application/pdf"},
                                  {"id": "file-Gone7", "name": "gone.txt"}]},
    ),
    node("b", "a", multimodal(picture("sediment://file_000000001df8722fa3fca4656cbcc545")), "tool"),
    node("c", "b", multimodal(picture("file-service://file-Dalle1")), "tool"),
    node(
        "d", "c",
        multimodal(
            {"content_type": "audio_transcription", "text": "Hello", "direction": "in"},
            {"content_type": "real_time_user_audio_video_asset_pointer", "video_container_asset_pointer": None,
             "audio_asset_pointer": {"content_type": "audio_asset_pointer",
                                     "asset_pointer": "sediment://file_0000000023f8"}},
        ),
    ),
)  # fmt: skip
FILES = {
    "file-AbC123-my_cat.png": PNG,
    "user-RiluP6G7/file-Pdf9-report.pdf": PDF,
    "file_000000001df8722fa3fca4656cbcc545.dat": PNG + b"generated",
    "dalle-generations/file-Dalle1-5f1cf8a2-0000-4000-8000-000000000001.webp": WEBP,
    "689f45b6-f6f0-8332-8f61-69c9e796073c/audio/file_0000000023f8-aa570aac-8dec-44e9-a99a-63988a2a33ce.wav": WAV,
    "conversation_asset_file_names.json": json.dumps(
        {"file_000000001df8722fa3fca4656cbcc545.dat": "A drawing.png", "other": 3}
    ).encode(),
    "chat.html": b"<html>",
}


def chatgpt_zip(files: dict[str, bytes] | None = None, name: str = "conversations.json") -> bytes:
    return zip_of({name: json.dumps([CHATGPT]).encode(), **(FILES if files is None else files)})


def attachments(user: Api) -> dict[str, tuple[str, str, bytes]]:
    """Of each attachment of the only conversation by its name: its message's role, its type and its bytes."""
    [listed] = user.get("/chat/conversations").get_json()
    found = {}
    for message in user.get(f"/chat/conversations/{listed['id']}/messages").get_json():
        for each in user.get(f"/chat/messages/{message['id']}/attachments").get_json():
            with user.get(f"/chat/attachments/{each['id']}/content") as response:
                found[each["file_name"]] = (message["role"], each["file_type"], response.get_data())
    return found


def contents(user: Api) -> list[str]:
    [listed] = user.get("/chat/conversations").get_json()
    return [each["content"] for each in user.get(f"/chat/conversations/{listed['id']}/messages").get_json()]


@pytest.mark.parametrize("name", ["conversations.json", "export/conversations-000.json"])
def test_files_of_chatgpt_become_attachments(app: Flask, ada: Api, name: str) -> None:
    report = imported(ada, chatgpt_zip(name=name), ZIP)
    assert report["errors"] == []
    assert report["format"] == "chatgpt"
    assert report["files"] == {"imported": 5, "missing": 0, "broken": 0, "refused": 0}
    assert attachments(ada) == {
        "my cat.png": ("user", "image/png", PNG),
        "report.pdf": ("user", "application/pdf", PDF),
        "A drawing.png": ("tool", "image/png", PNG + b"generated"),
        "5f1cf8a2-0000-4000-8000-000000000001.webp": ("tool", "image/webp", WEBP),
        "aa570aac-8dec-44e9-a99a-63988a2a33ce.wav": ("user", "audio/wav", WAV),
    }
    # what was not found leaves its note, and so does all else where it was
    assert contents(ada)[0] == "[image: my cat.png]\nWhat is this?\n[file: report.pdf]\n[file: gone.txt]"
    before = rows_of(app, ada.user_id)
    again = imported(ada, chatgpt_zip(name=name), ZIP)
    assert (again["conversations"]["unchanged"], again["files"]["imported"], again["updates"]) == (1, 0, [])
    assert rows_of(app, ada.user_id) == before


def test_files_come_with_the_zip_after_the_json(ada: Api) -> None:
    assert imported(ada, json.dumps([CHATGPT]).encode(), JSON)["attachments"]["imported"] == 0
    said = contents(ada)
    some = {name: content for name, content in FILES.items() if "cat" in name}
    report = imported(ada, chatgpt_zip(some), ZIP)
    assert (report["attachments"]["imported"], report["files"]["imported"]) == (1, 1)
    report = imported(ada, chatgpt_zip(), ZIP)
    assert (report["attachments"]["imported"], report["files"]["imported"]) == (4, 4)
    [update] = report["updates"]
    assert (update["messages_kept"], update["files_added"]) == (0, 4)
    assert contents(ada) == said
    assert len(attachments(ada)) == 5


def test_broken_file_of_chatgpt_leaves_its_note_alone(app: Flask, ada: Api) -> None:
    report = imported(ada, chatgpt_zip({"file-AbC123-my_cat.png": b""}), ZIP)
    assert report["files"] == {"imported": 0, "missing": 0, "broken": 1, "refused": 0}
    assert report["attachments"]["imported"] == 0
    assert owned_rows(app, ada.user_id)["attachments"] == 0
    assert "[image: my cat.png]" in contents(ada)[0]


@pytest.mark.parametrize("labels", [b"", b"[]", b"{", b"[" * 100_000, b'{"a": "\xff"}'])
def test_names_that_cannot_be_read_are_done_without(ada: Api, labels: bytes) -> None:
    report = imported(ada, chatgpt_zip(FILES | {"conversation_asset_file_names.json": labels}), ZIP)
    assert report["files"]["imported"] == 5
    assert "file_000000001df8722fa3fca4656cbcc545.dat" in attachments(ada)


def test_files_of_claude_are_taken_where_the_zip_has_them(ada: Api) -> None:
    uuid = "0b5f2f4c-6a7e-4c58-9d39-1f6f2b1c0a11"
    source = [{
        "uuid": "c1", "name": "Chat", "created_at": "2025-01-01T10:00:00Z", "updated_at": "2025-01-01T10:00:00Z",
        "chat_messages": [{
            "uuid": "m1", "sender": "human", "text": "Look", "created_at": "2025-01-01T10:00:00Z",
            "attachments": [{"file_name": "notes.txt", "extracted_content": "What it says"}],
            "files": [{"file_name": "photo.png", "file_uuid": uuid}, {"file_name": "gone.png"}],
        }],
    }]  # fmt: skip
    entries = {
        f"files/{uuid}.png": PNG,
        "notes.txt": b"What it says",
        "a/twice.txt": b"1",
        "b/twice.txt": b"2",
    }
    report = imported(ada, zip_of({"conversations.json": json.dumps(source).encode(), **entries}), ZIP)
    assert report["files"] == {"imported": 2, "missing": 0, "broken": 0, "refused": 0}
    assert attachments(ada) == {
        "photo.png": ("user", "image/png", PNG),
        "notes.txt": ("user", "text/plain", b"What it says"),
    }
    assert "[file: gone.png]" in contents(ada)[0]


def test_pictures_in_a_chat_of_open_webui_become_attachments(app: Flask, ada: Api) -> None:
    def url(content: bytes) -> str:
        return "data:image/png;base64," + base64.b64encode(content).decode()

    broken = [
        "data:image/png;base64,%%%",
        "data:image/png;base64,",
        "data:,x",
        "/api/v1/files/1/content",
        None,
        3,
    ]
    files = [{"type": "image", "url": each} for each in (url(PNG), url(PNG), url(PNG + b"2"), *broken)]
    messages = {"m": {"id": "m", "parentId": None, "role": "user", "content": "Look", "files": files}}
    source = {"id": "c", "title": "Chat", "chat": {"history": {"messages": messages, "currentId": "m"}}}
    report = imported(ada, json.dumps([source]).encode(), JSON)
    assert report["format"] == "open-webui"
    assert report["files"] == {"imported": 2, "missing": 0, "broken": 1, "refused": 0}
    assert owned_rows(app, ada.user_id)["stored_files"] == 2
    assert attachments(ada) == {"image.png": ("user", "image/png", PNG + b"2")}  # both are called so
    assert contents(ada) == ["Look" + "\n[image]" * len(files)]
    before = rows_of(app, ada.user_id)
    assert imported(ada, json.dumps([source]).encode(), JSON)["conversations"]["unchanged"] == 1
    assert rows_of(app, ada.user_id) == before


def test_files_are_found_by_their_ids_and_by_names_that_only_one_has() -> None:
    uuid = "0B5F2F4C-6A7E-4C58-9D39-1F6F2B1C0A11"
    assets = Assets(
        ["file-A1-x.png", "deep/er/file-A1-y.png", "file-A12-z.png", f"up/{uuid}_plan.pdf", "1/t.txt", "2/t.txt",
         "only.txt", "file_b2-sanitized.png"]
    )  # fmt: skip

    def found(text: str) -> tuple[str, str] | None:
        asset = assets.by_id(text)
        return (asset.member, asset.name) if asset else None

    assert found("file-service://file-A1") == ("file-A1-x.png", "x.png")
    assert found("A1") == ("file-A1-x.png", "x.png")
    assert found("file-A") is None
    assert found("sediment://0f#file_b2#p_1.jpg") == ("file_b2-sanitized.png", "file_b2-sanitized.png")
    assert found(uuid.lower()) == (f"up/{uuid}_plan.pdf", "plan.pdf")
    assert found("") is None
    assert assets.by_name("t.txt") is None
    assert assets.by_name("only.txt") is not None
