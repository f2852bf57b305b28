"""Downloads: the bytes or a range of them, under conditions, and never something that a browser runs."""

import hashlib
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from flask import Flask
from werkzeug.http import http_date
from werkzeug.test import TestResponse

from chat_api.attachments.downloads import sent_type
from chat_api.attachments.slots import MAX_DOWNLOADS_PER_USER, download_slots
from chat_api.database.columns import new_id
from chat_api.files.store import storage
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, names_of, uploaded

LARGE = b"".join(
    hashlib.sha256(b"%d" % number).digest() for number in range(20_000)
)  # 640 KB, no part like another
HTML = b"<!doctype html><script>alert(document.domain)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(document.domain)"/>'
PDF = b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj"


def test_download_says_what_it_is_and_how_to_come_back_for_it(ada: Api) -> None:
    attachment = uploaded(ada)
    download = ada.get(attachment["file_path"])
    assert {name: download.headers.get_all(name) for name in (
        "Content-Type", "Content-Length", "Content-Disposition", "ETag", "Accept-Ranges", "Cache-Control",
        "Last-Modified", "X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy",
        "Referrer-Policy",
    )} == {
        "Content-Type": ["image/png"],
        "Content-Length": [str(len(PNG))],
        "Content-Disposition": ['attachment; filename="cat.png"'],
        "ETag": [f'"{attachment["sha256"]}"'],
        "Accept-Ranges": ["bytes"],
        "Cache-Control": ["private, no-cache"],
        "Last-Modified": [http_date(datetime.fromisoformat(attachment["created_at"]))],
        "X-Content-Type-Options": ["nosniff"],
        "Content-Security-Policy": ["sandbox; default-src 'none'; frame-ancestors 'none'"],
        "Cross-Origin-Resource-Policy": ["same-origin"],
        "Referrer-Policy": ["no-referrer"],
    }  # fmt: skip


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["small", "large"])
def test_ranges_join_to_the_whole(ada: Api, content: bytes) -> None:
    path = uploaded(ada, content, name="a.bin", claimed="")["file_path"]
    half, size = len(content) // 2, len(content)
    for value, start, stop in (
        (f"bytes=0-{half - 1}", 0, half),
        (f"bytes={half}-", half, size),
        ("bytes=-10", size - 10, size),
        ("bytes=0-9,10-19", 0, 20),
    ):
        part = _get(ada, path, Range=value)
        assert (part.status_code, part.get_data()) == (206, content[start:stop]), value
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["Content-Length"] == str(stop - start)
    for value in ("bytes=0-0,50-60", "bytes=x", "bytes=9-1", "lines=0-1", "bytes="):
        whole = _get(ada, path, Range=value)
        assert (whole.status_code, whole.get_data()) == (200, content), value
        assert "Content-Range" not in whole.headers
    beyond = ada.get(path, headers={"Range": f"bytes={size}-"})
    assert_problem(beyond, 416)
    assert beyond.headers["Content-Range"] == f"bytes */{size}"


def test_range_of_other_bytes_is_answered_by_the_whole(ada: Api) -> None:
    attachment = uploaded(ada)
    for etag, status in ((attachment["sha256"], 206), ("0" * 64, 200)):
        headers = {"Range": "bytes=0-9", "If-Range": f'"{etag}"'}
        assert ada.get(attachment["file_path"], headers=headers).status_code == status


def test_content_that_the_client_has_is_not_sent_again(ada: Api) -> None:
    attachment = uploaded(ada)
    etag = f'"{attachment["sha256"]}"'
    for value in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = ada.get(attachment["file_path"], headers={"If-None-Match": value})
        assert (again.status_code, again.get_data(), again.headers["ETag"]) == (304, b"", etag)
        assert "Content-Type" not in again.headers
        assert (
            again.headers["Content-Security-Policy"] == "sandbox; default-src 'none'; frame-ancestors 'none'"
        )
    assert ada.get(attachment["file_path"], headers={"If-None-Match": '"x"'}).status_code == 200
    assert_problem(ada.get(attachment["file_path"], headers={"If-Match": '"x"'}), 412)


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["small", "large"])
def test_head_is_as_get_without_the_bytes(app: Flask, ada: Api, content: bytes) -> None:
    path = uploaded(ada, content, name="a.bin", claimed="")["file_path"]
    get, head = _get(ada, path), ada.request("HEAD", path, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.get_data()) == (200, b"")
    assert _lasting(head.headers) == _lasting(get.headers)
    _lose_bytes(app, ada)
    assert ada.request("HEAD", path).status_code == 404


@pytest.mark.parametrize(
    ("content", "name"), [(HTML, "a.html"), (SVG, "a.svg"), (b"alert(1)", "a.js"), (b"a{}", "a.css"), (PDF, "a.pdf"),
                          (b"<?xml version='1.0'?><a/>", "a.xml"), (b"GIF89a/*\x00<script>*/", "a.gif")]
)  # fmt: skip
def test_what_browsers_run_is_saved(ada: Api, content: bytes, name: str) -> None:
    attachment = uploaded(ada, content, name=name, claimed="")
    download = ada.get(attachment["file_path"])
    assert download.get_data() == content
    assert download.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert (
        download.headers["Content-Security-Policy"] == "sandbox; default-src 'none'; frame-ancestors 'none'"
    )
    assert download.headers["X-Content-Type-Options"] == "nosniff"
    assert download.headers["Content-Type"] in ("application/octet-stream", "application/pdf", "image/gif")


@pytest.mark.parametrize(
    "file_type",
    ["text/html", "application/xhtml+xml", "image/svg+xml", "application/xml", "text/xml", "application/rss+xml",
     "text/javascript", "application/javascript", "application/ecmascript", "text/x-livescript1.0", "text/css",
     "text/xsl", "application/wasm", "application/x-shockwave-flash", "application/x-httpd-php", "text/vbscript"],
)  # fmt: skip
def test_type_that_browsers_run_is_not_named(file_type: str) -> None:
    assert sent_type(file_type) == sent_type(file_type.upper()) == "application/octet-stream"


@pytest.mark.parametrize(
    "file_type",
    ["image/png", "text/plain", "text/csv", "text/markdown", "application/json", "application/pdf", "audio/mpeg",
     "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "video/mp4", "application/zip"],
)  # fmt: skip
def test_other_types_are_named(file_type: str) -> None:
    assert sent_type(file_type) == file_type


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("naïve café.png", "naive cafe.png"),
        ("猫.png", "_.png"),
        ("a:b.png", "a_b.png"),
        ("100%.png", "100_.png"),
    ],
)
def test_name_of_any_characters_is_quoted(ada: Api, name: str, plain: str) -> None:
    attachment = uploaded(ada, name=name)
    disposition = ada.get(attachment["file_path"]).headers["Content-Disposition"]
    quoted, _, encoded = disposition.partition("; filename*=UTF-8''")
    assert quoted == f'attachment; filename="{plain}"'
    assert unquote(encoded) == attachment["file_name"]
    assert disposition.isascii()


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["small", "large"])
def test_bytes_that_are_gone_are_404(app: Flask, ada: Api, content: bytes) -> None:
    path = uploaded(ada, content, name="a.bin", claimed="")["file_path"]
    _lose_bytes(app, ada)
    assert_problem(ada.get(path), 404)
    assert download_slots.taken == 0


def test_file_that_was_cut_breaks_the_response_off(app: Flask, ada: Api) -> None:
    path = uploaded(ada, LARGE, name="a.bin", claimed="")["file_path"]
    [name] = names_of(app, ada)
    file = Path(app.config["DATA_DIR"]) / "files" / name
    file.write_bytes(LARGE[:-1])
    with pytest.raises(OSError, match="shorter"):
        _get(ada, path)


def test_storage_that_fails_is_unavailable(app: Flask, ada: Api) -> None:
    path = uploaded(ada)["file_path"]
    [name] = names_of(app, ada)
    file = Path(app.config["DATA_DIR"]) / "files" / name
    file.unlink()
    file.mkdir()  # can't be read, and is not missing either
    assert_problem(ada.get(path), 503)


def test_large_downloads_of_a_user_are_limited(ada: Api, bob: Api) -> None:
    large = uploaded(ada, LARGE, name="a.bin", claimed="")["file_path"]
    small = uploaded(ada)["file_path"]
    others = uploaded(bob, LARGE, name="a.bin", claimed="")["file_path"]
    running = [ada.get(large) for _ in range(MAX_DOWNLOADS_PER_USER)]
    try:
        assert_problem(ada.get(large), 429)
        assert _get(bob, others).get_data() == LARGE
        assert ada.get(small).status_code == 200
        assert ada.get(large, headers={"Range": "bytes=0-9"}).status_code == 206
    finally:
        for response in running:
            response.close()
    assert download_slots.taken == 0
    assert _get(ada, large).get_data() == LARGE


def test_name_of_a_file_of_another_is_of_no_use(app: Flask, ada: Api, bob: Api) -> None:
    """Only the row says where the bytes are: neither the id of the file nor its hash opens anything."""
    attachment = uploaded(ada)
    [name] = names_of(app, ada)
    for wrong in (name.partition("/")[2], attachment["sha256"], name, f"../{name}", new_id()):
        assert bob.get(f"/chat/attachments/{wrong}/content").status_code == 404
        assert ada.get(f"/chat/attachments/{wrong}/content").status_code == 404


def _get(user: Api, path: str, **headers: str) -> TestResponse:
    """The response, read as a whole and closed, as a server does it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return user.get(path, headers=named, buffered=True)


def _lasting(headers: object) -> dict[str, str]:
    return {name: value for name, value in dict(headers).items() if name not in ("X-Request-ID", "Date")}  # type: ignore[call-overload]


def _lose_bytes(app: Flask, user: Api) -> None:
    with app.app_context():
        for name in names_of(app, user):
            storage().delete(name)
