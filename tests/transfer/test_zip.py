"""Exports with the contents of attachments: what goes out as a zip comes in elsewhere, byte for byte."""

import hashlib
import io
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.files.models import StoredFile
from chat_api.files.store import name_of, storage
from chat_api.storage import Stored
from chat_api.transfer import zip_export
from tests.conftest import serving, user_maker
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.s3 import BUCKET, S3Server
from tests.support.tables import fresh_database, owned_rows
from tests.support.uploads import PNG, uploaded
from tests.transfer.exports import (
    Line,
    attachment,
    content_line,
    exported,
    file_of,
    imported,
    message,
    restorable,
    rows_of,
    send,
    whole,
    zip_of,
)

ZIP = "application/zip"
NOTES = b"some notes\n" * 30_000  # of several chunks


def exported_zip(user: Api) -> bytes:
    with user.get("/chat/export/zip") as response:
        assert response.status_code == 200, response.get_data(as_text=True)
        assert response.content_type == ZIP
        assert response.headers["Content-Disposition"].endswith('.zip"')
        return response.get_data()


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names}


def lines_in(data: bytes) -> list[Line]:
    return [orjson.loads(line) for line in contents(data)["export.ndjson"].splitlines()]


def missing_in(data: bytes) -> list[Line]:
    lines = [orjson.loads(line) for line in contents(data)["missing-files.ndjson"].splitlines()]
    assert lines[0] == {"type": "export", "version": 1}
    assert lines[-1]["type"] == "end"
    assert lines[-1]["missing_files"] == len(lines) - 2
    return lines[1:-1]


def with_file(user: Api, content: bytes = PNG, name: str = "cat.png", **fields: Any) -> tuple[Line, Line]:
    """A message, and its attachment with this content."""
    said = user.message(user.conversation()["id"])
    return said, uploaded(user, content, name=name, claimed="", message_id=said["id"], **fields)


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def export_with(content: bytes, **fields: Any) -> tuple[bytes, Line]:
    """The lines of a conversation with one attachment, and that."""
    lines = whole(1)
    line = content_line(lines[-1], content, **fields)
    return file_of(*lines, line), line


def download(user: Api, attachment_id: str) -> bytes:
    with user.get(f"/chat/attachments/{attachment_id}/content") as response:
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.get_data()


# -- what goes out ---------------------------------------------------------------------------------------------


def test_zip_has_the_lines_and_each_content_once(ada: Api) -> None:
    said, cat = with_file(ada)
    uploaded(ada, PNG, name="again.png", message_id=said["id"])
    _, notes = with_file(ada, NOTES, "Notizen über.txt")
    label = ada.attachment(said["id"])
    draft = uploaded(ada, b"a draft", name="d.txt", claimed="")
    data = exported_zip(ada)
    assert set(contents(data)) == {
        "export.ndjson", "missing-files.ndjson", f"files/{hash_of(PNG)}", f"files/{hash_of(NOTES)}",
    }  # fmt: skip
    assert contents(data)[f"files/{hash_of(PNG)}"] == PNG
    assert contents(data)[f"files/{hash_of(NOTES)}"] == NOTES
    assert missing_in(data) == []
    found = {line["id"]: line for line in lines_in(data) if line["type"] == "attachment"}
    assert found[cat["id"]] == {
        "type": "attachment", "id": cat["id"], "message_id": said["id"], "file_type": "image/png",
        "file_path": cat["file_path"], "created_at": cat["created_at"], "file_name": "cat.png",
        "size_bytes": len(PNG), "sha256": hash_of(PNG), "path": f"files/{hash_of(PNG)}",
    }  # fmt: skip
    assert found[notes["id"]]["file_name"] == "Notizen über.txt"
    assert "sha256" not in found[label["id"]]
    assert draft["id"] not in found
    # without files the lines are the same, but for where these would be
    for line in found.values():
        line.pop("path", None)
    assert {line["id"]: line for line in exported(ada) if line["type"] == "attachment"} == found


def test_other_programs_read_the_zip(ada: Api, tmp_path: Path) -> None:
    with_file(ada, NOTES)
    file = tmp_path / "export.zip"
    file.write_bytes(exported_zip(ada))
    program = shutil.which("unzip")
    if program is None:
        pytest.skip("there is no unzip")
    subprocess.run([program, "-q", file, "-d", tmp_path / "out"], check=True)
    assert (tmp_path / "out" / "files" / hash_of(NOTES)).read_bytes() == NOTES


def test_files_that_are_gone_are_named_and_the_rest_goes_out(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lost = with_file(ada, b"lost bytes", "a.txt")
    _, deleted = with_file(ada, b"deleted meanwhile", "b.txt")
    _, short = with_file(ada, b"cut off by a disk", "c.txt")
    _, kept = with_file(ada, b"kept", "d.txt")
    with app.app_context():
        rows = {
            row.sha256: row.id
            for row in db.session.scalars(sa.select(StoredFile).where(StoredFile.user_id == ada.user_id))
        }
        db.session.rollback()
        storage().delete(name_of(ada.user_id, rows[hash_of(b"lost bytes")]))
        path = storage().local_path(name_of(ada.user_id, rows[hash_of(b"cut off by a disk")]))
        assert path is not None
        path.write_bytes(b"cut off")
    with ada.get("/chat/export/zip") as response:
        chunks: Any = iter(response.response)
        data = next(chunks)  # the lines
        assert ada.delete(f"/chat/attachments/{deleted['id']}").status_code == 204
        with app.app_context():
            db.session.execute(
                sa.delete(StoredFile).where(StoredFile.id == rows[hash_of(b"deleted meanwhile")])
            )
            db.session.commit()
        data += b"".join(chunks)
    assert {line["sha256"]: line["reason"] for line in missing_in(data)} == {
        hash_of(b"lost bytes"): "lost",
        hash_of(b"deleted meanwhile"): "deleted",
        hash_of(b"cut off by a disk"): "lost",
    }
    assert contents(data)[f"files/{hash_of(b'kept')}"] == b"kept"
    assert {line["id"] for line in lines_in(data) if line["type"] == "attachment"} == {
        lost["id"], deleted["id"], short["id"], kept["id"],
    }  # fmt: skip


def test_an_export_breaks_off_where_the_storage_is_away(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zip that has none of the files would be taken for an export."""
    for number in range(zip_export.MOST_FAILURES + 1):
        with_file(ada, b"content %d" % number, "a.txt")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("the disk is gone")

    with app.app_context():
        monkeypatch.setattr(storage(), "open", fail)
    with ada.get("/chat/export/zip") as response, pytest.raises(Exception, match="can't be read"):
        response.get_data()


# -- there and back --------------------------------------------------------------------------------------------


def filled(user: Api, seed: int) -> None:
    """Conversations with messages of all kinds with attachments of all kinds."""
    chance = random.Random(seed)
    texts = [b"text %d" % number * chance.randint(1, 40_000) for number in range(4)]
    for _ in range(3):
        conversation = user.conversation()["id"]
        for _ in range(chance.randint(1, 5)):
            drafts = [
                uploaded(
                    user, chance.choice([PNG, *texts]), name=f"{chance.randint(1, 9)} – ä.png", claimed=""
                )["id"]
                for _ in range(chance.randint(0, 3))
            ]
            body: dict[str, Any] = {"conversation_id": conversation, "role": "user", "content": "Look"}
            if drafts and chance.random() < 0.3:
                body |= {"content": "", "attachment_ids": drafts}
            elif drafts and chance.random() < 0.6:
                parts: list[Line] = [{"type": "attachment", "attachment_id": each} for each in drafts]
                body["content"] = [
                    {"type": "text", "text": "First"},
                    *parts,
                    {"type": "text", "text": "Last"},
                ]
            elif drafts:
                body["attachment_ids"] = drafts
            said = user.made("/chat/messages", body)
            if chance.random() < 0.3:
                user.attachment(said["id"])


def assert_same_everywhere(first: Api, second: Api) -> None:
    """The same lines, and the same bytes behind each attachment."""
    lines = restorable(exported(first))
    assert restorable(exported(second)) == lines
    for line in lines:
        if "sha256" in line:
            assert download(second, line["id"]) == download(first, line["id"])
            assert hash_of(download(second, line["id"])) == line["sha256"]


@pytest.mark.happy_path("export_zip")
@pytest.mark.parametrize("seed", [1, 2])
def test_export_and_import_give_equal_data_and_bytes(
    app: Flask, make_user: Callable[..., Api], seed: int
) -> None:
    assert_round_trip(app, make_user, seed)


def assert_round_trip(app: Flask, make_user: Callable[..., Api], seed: int) -> None:
    first, second, third = make_user(), make_user(), make_user()
    filled(first, seed)
    data = exported_zip(first)
    count = sum("sha256" in line for line in lines_in(data))
    assert count
    report = imported(second, data, ZIP)
    assert report["errors"] == []
    assert report["notes"] == []
    assert report["format"] == "chat-api"
    assert report["files"] == {"imported": count, "missing": 0, "broken": 0, "refused": 0}
    assert_same_everywhere(first, second)
    assert owned_rows(app, second.user_id)["stored_files"] == len(contents(data)) - 2

    before = rows_of(app, second.user_id)
    again = imported(second, data, ZIP)
    assert (again["conversations"]["unchanged"], again["files"]["imported"], again["updates"]) == (3, 0, [])
    assert rows_of(app, second.user_id) == before

    assert imported(third, exported_zip(second), ZIP)["errors"] == []
    assert_same_everywhere(first, third)
    ours = contents(exported_zip(third))
    theirs = contents(data)
    assert {name for name in ours if name.startswith("files/")} == {
        name for name in theirs if name.startswith("files/")
    }


@pytest.mark.slow
def test_round_trip_through_a_bucket(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as s3, fresh_database(backend, tmp_path) as url:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        settings = {"ATTACHMENT_STORAGE": f"s3://{BUCKET}/chat", "S3_ENDPOINT_URL": s3.endpoint_url}
        with serving(url, tmp_path, **settings) as app:
            assert_round_trip(app, user_maker(app), 3)
            assert s3.keys()


def test_files_missed_by_the_first_import_are_brought_by_the_next(app: Flask, ada: Api, bob: Api) -> None:
    said, cat = with_file(ada)
    _, notes = with_file(ada, NOTES, "notes.txt")
    with ada.get("/chat/export") as response:
        report = imported(bob, response.get_data())
    assert report["files"] == {"imported": 0, "missing": 2, "broken": 0, "refused": 0}
    assert any("not in the file" in note for note in report["notes"])
    assert_problem(bob.get(f"/chat/attachments/{cat['id']}/content"), 404)
    assert bob.get(f"/chat/messages/{said['id']}/attachments").get_json()[0]["id"] == cat["id"]

    # by and by: first with one of them
    data = contents(exported_zip(ada))
    del data[f"files/{hash_of(NOTES)}"]
    report = imported(bob, zip_of(data), ZIP)
    assert report["files"] == {"imported": 1, "missing": 1, "broken": 0, "refused": 0}
    assert [each["files_added"] for each in report["updates"]] == [1]
    assert report["conversations"]["updated"] == 1
    assert download(bob, cat["id"]) == PNG
    report = imported(bob, exported_zip(ada), ZIP)
    assert report["files"] == {"imported": 1, "missing": 0, "broken": 0, "refused": 0}
    assert download(bob, notes["id"]) == NOTES
    assert_same_everywhere(ada, bob)


def test_bytes_that_were_lost_come_back(app: Flask, ada: Api) -> None:
    _, cat = with_file(ada)
    data = exported_zip(ada)
    ada.delete(f"/chat/attachments/{cat['id']}")
    with app.app_context():  # the row is still there, the bytes are not
        [row] = db.session.scalars(sa.select(StoredFile).where(StoredFile.user_id == ada.user_id))
        storage().delete(name_of(ada.user_id, row.id))
    assert imported(ada, data, ZIP)["files"]["imported"] == 1
    assert download(ada, cat["id"]) == PNG


def test_lines_alone_find_content_that_the_user_has(ada: Api) -> None:
    said, cat = with_file(ada)
    uploaded(ada, PNG)  # a draft of the same
    with ada.get("/chat/export") as response:
        data = response.get_data()
    assert ada.delete(f"/chat/conversations/{said['conversation_id']}").status_code == 204
    assert imported(ada, data)["files"] == {"imported": 1, "missing": 0, "broken": 0, "refused": 0}
    assert download(ada, cat["id"]) == PNG


def test_nobody_gets_a_file_by_its_hash(ada: Api, bob: Api) -> None:
    with_file(ada, b"a secret of Ada's", "a.txt")
    data, line = export_with(b"a secret of Ada's")
    assert imported(bob, data)["files"]["missing"] == 1
    assert imported(bob, zip_of({"export.ndjson": data}), ZIP)["files"]["missing"] == 1
    assert_problem(bob.get(f"/chat/attachments/{line['id']}/content"), 404)


def test_a_zip_holds_nothing_of_others(ada: Api, bob: Api) -> None:
    with_file(ada, b"a secret of Ada's", "a.txt")
    with_file(bob)
    assert f"files/{hash_of(PNG)}" in contents(exported_zip(bob))
    assert b"secret" not in exported_zip(bob)


def test_attachment_with_the_id_of_a_draft_is_refused(ada: Api) -> None:
    """The draft is to become an attachment with this id."""
    draft = uploaded(ada, b"a draft", name="d.txt", claimed="")
    lines = whole(1)
    report = imported(ada, file_of(*lines, attachment(lines[-1], id=draft["id"])))
    assert report["conversations"]["failed"] == 1
    body = {
        "conversation_id": ada.conversation()["id"],
        "role": "user",
        "content": "x",
        "attachment_ids": [draft["id"]],
    }
    said = ada.made("/chat/messages", body)
    # with its message it may be imported again
    with ada.get("/chat/export") as response:
        data = response.get_data()
    assert ada.delete(f"/chat/conversations/{said['conversation_id']}").status_code == 204
    assert imported(ada, data)["errors"] == []


def test_a_folder_that_was_packed_again_is_an_export(ada: Api, bob: Api) -> None:
    _, cat = with_file(ada)
    data = {f"chat-export/{name}": content for name, content in contents(exported_zip(ada)).items()}
    assert imported(bob, zip_of(data), ZIP)["files"]["imported"] == 1
    assert download(bob, cat["id"]) == PNG


# -- what is broken, or made to do harm ------------------------------------------------------------------------


def test_broken_and_forged_files_are_counted_and_the_rest_is_stored(app: Flask, ada: Api) -> None:
    lines = whole(1)
    texts = [b"good", b"another than its hash", b"not there", b""]
    wanted = [content_line(lines[-1], text or b"?") for text in texts]
    entries = {f"files/{hash_of(text)}": text for text in (b"good",)}
    entries[f"files/{hash_of(b'another than its hash')}"] = b"something else"
    entries[f"files/{hash_of(b'?')}"] = b""
    report = imported(ada, zip_of({"export.ndjson": file_of(*lines, *wanted), **entries}), ZIP)
    assert report["conversations"]["imported"] == 1
    assert report["attachments"]["imported"] == 4
    assert report["files"] == {"imported": 1, "missing": 1, "broken": 2, "refused": 0}
    assert len(report["notes"]) == 2
    assert download(ada, wanted[0]["id"]) == b"good"
    assert owned_rows(app, ada.user_id)["stored_files"] == 1
    with app.app_context():
        assert len(stored(ada)) == 1


def stored(user: Api) -> list[Stored]:
    """What the storage has of a user."""
    return [each for each in storage().names() if each.name.startswith(user.user_id)]


@pytest.mark.parametrize("harm", ["encrypted", "method", "crc", "cut"])
def test_entry_that_cannot_be_read_is_broken(ada: Api, harm: str) -> None:
    content = b"content that is long enough to be cut " * 100
    lines, line = export_with(content)
    name = f"files/{line['sha256']}".encode()
    data = bytearray(zip_of({"export.ndjson": lines, name.decode(): content}, zipfile.ZIP_STORED))
    begin, entry = data.rindex(b"PK\x03\x04"), data.rindex(name) - 46
    if harm == "encrypted":
        data[begin + 6] |= 1
        data[entry + 8] |= 1
    elif harm == "method":
        data[begin + 8 : begin + 10] = data[entry + 10 : entry + 12] = b"\x63\x00"
    elif harm == "crc":
        data[data.index(content) + 5] ^= 1
    else:  # its size in the directory is that of half of it
        half = (len(content) // 2).to_bytes(4, "little")
        data[entry + 20 : entry + 28] = half + half
    report = imported(ada, bytes(data), ZIP)
    assert report["conversations"]["imported"] == 1
    assert report["files"] == {"imported": 0, "missing": 0, "broken": 1, "refused": 0}


def test_names_of_paths_are_only_names(app: Flask, ada: Api, tmp_path: Path) -> None:
    lines, line = export_with(PNG, path="../../../../tmp/evil")
    entries = {"export.ndjson": lines, "../../../../tmp/evil": PNG, "/etc/evil": PNG}
    report = imported(ada, zip_of(entries), ZIP)
    assert report["files"]["missing"] == 1
    assert not Path("/tmp/evil").exists()
    assert not Path("/etc/evil").exists()
    # nor does the client's name of a file lead anywhere
    lines, line = export_with(PNG, file_name="../../etc/passwd.png")
    imported(ada, zip_of({"export.ndjson": lines, f"files/{line['sha256']}": PNG}), ZIP)
    assert ada.get(f"/chat/attachments/{line['id']}").get_json()["file_name"] == "passwd.png"


def test_of_equal_names_only_what_has_the_hash_counts(ada: Api) -> None:
    lines, line = export_with(PNG)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("export.ndjson", lines)
        archive.writestr(f"files/{line['sha256']}", b"the first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"files/{line['sha256']}", PNG)
    assert imported(ada, file.getvalue(), ZIP)["files"]["imported"] == 1
    assert download(ada, line["id"]) == PNG


def test_bombs_are_left_out(app: Flask, ada: Api) -> None:
    good, bomb = whole(1), whole(1)
    zeros = bytes(30_000_000)
    wanted = content_line(bomb[-1], zeros)
    data = zip_of({"export.ndjson": file_of(*good, *bomb, wanted), f"files/{wanted['sha256']}": zeros})
    assert len(data) < 100_000
    report = imported(ada, data, ZIP)
    assert report["conversations"] == {"imported": 2, "updated": 0, "unchanged": 0, "failed": 0}
    assert report["files"] == {"imported": 0, "missing": 0, "broken": 0, "refused": 1}
    with app.app_context():
        assert stored(ada) == []
    # a thousand lines that name the same bomb unpack it no further
    many = [{**wanted, "id": new_id()} for _ in range(1000)]
    lines = file_of(*whole(1), *bomb, *many)
    report = imported(ada, zip_of({"export.ndjson": lines, f"files/{wanted['sha256']}": zeros}), ZIP)
    assert report["files"]["refused"] == 1000


def test_type_is_what_the_content_is(ada: Api) -> None:
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    lines, line = export_with(page, file_type="image/png")
    imported(ada, zip_of({"export.ndjson": lines, f"files/{line['sha256']}": page}), ZIP)
    found = ada.get(f"/chat/attachments/{line['id']}").get_json()
    assert (found["file_type"], found["file_path"]) == (
        "text/html",
        f"/chat/attachments/{line['id']}/content",
    )
    response = ada.get(found["file_path"])
    assert response.content_type == "application/octet-stream"


def test_what_is_too_large_or_has_no_room_is_left_out(backend: str, tmp_path: Path) -> None:
    limits = {"MAX_ATTACHMENT_BYTES": 5000, "MAX_FILE_BYTES_PER_USER": 6000}
    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path, **limits) as app:
        user = user_maker(app)()
        lines = whole(1)
        texts = [b"a" * 5001, b"b" * 4000, b"c" * 3000, b"b" * 4000, b"d" * 2000]
        wanted = [content_line(lines[-1], text) for text in texts]
        entries = {f"files/{hash_of(text)}": text for text in texts}
        data = zip_of({"export.ndjson": file_of(*lines, *wanted), **entries})
        report = imported(user, data, ZIP)
        assert report["attachments"]["imported"] == 5
        assert report["files"] == {"imported": 3, "missing": 0, "broken": 0, "refused": 2}
        assert [note for note in report["notes"] if "no room" in note]
        assert download(user, wanted[3]["id"]) == texts[3]
        # with more room it is brought
        app.config["MAX_FILE_BYTES_PER_USER"] = 20_000
        assert imported(user, data, ZIP)["files"] == {
            "imported": 1,
            "missing": 0,
            "broken": 0,
            "refused": 1,
        }


def test_refused_conversation_leaves_no_bytes(app: Flask, ada: Api) -> None:
    first, said = whole(1)
    wrong = message(first, 1)  # the same position again
    data = file_of(first, said, content_line(said, PNG), wrong)
    report = imported(ada, zip_of({"export.ndjson": data, f"files/{hash_of(PNG)}": PNG}), ZIP)
    assert report["conversations"]["failed"] == 1
    with app.app_context():
        assert stored(ada) == []
    assert owned_rows(app, ada.user_id)["stored_files"] == 0


def test_lines_that_break_off_in_the_zip_keep_what_came_before(ada: Api) -> None:
    data = file_of(*whole(2), *whole(2), *whole(2))
    cut = data[: data.rindex(b'{"type":"message"')]
    report = imported(ada, zip_of({"export.ndjson": cut}), ZIP)
    assert report["conversations"]["imported"] == 2
    assert report["errors"]
    assert assert_problem(send(ada, zip_of({"export.ndjson": b"{"}), ZIP), 400)


def test_a_content_is_whole_or_none(ada: Api) -> None:
    lines = whole(1)
    report = imported(ada, file_of(*lines, attachment(lines[-1], sha256=hash_of(PNG))))
    assert report["conversations"]["failed"] == 1
    report = imported(ada, file_of(*lines, content_line(lines[-1], PNG, sha256="A" * 64)))
    assert report["conversations"]["failed"] == 1
    assert "sha256" in report["errors"][0]["detail"]


def test_conversation_of_many_batches_has_all_its_files(app: Flask, ada: Api, bob: Api) -> None:
    lines = whole(300)
    texts = [b"content %d" % number for number in range(300)]
    both = [
        each
        for said, text in zip(lines[1:], texts, strict=True)
        for each in (said, content_line(said, text, file_type="text/plain"))
    ]
    entries = {f"files/{hash_of(text)}": text for text in texts}
    data = zip_of({"export.ndjson": file_of(lines[0], *both), **entries})
    report = imported(ada, data, ZIP)
    assert report["files"]["imported"] == 300
    assert imported(bob, exported_zip(ada), ZIP)["files"]["imported"] == 300
    last = both[-1]["id"]
    assert download(bob, last) == texts[-1]
