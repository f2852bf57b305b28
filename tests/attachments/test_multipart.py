"""Forms as no library sends them: names, boundaries, parts and ends that are odd, broken or endless."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.attachments.uploads import MAX_FORM_BYTES, label_of
from tests.support.api import Api
from tests.support.interrupted import Interrupted
from tests.support.problems import assert_problem
from tests.support.uploads import PNG, names_of, uploaded

TYPE = "multipart/form-data; boundary=b"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"'
MESSAGE_ID = b'Content-Disposition: form-data; name="message_id"'


def part(head: bytes, content: bytes = b"some text") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def send(user: Api, body: bytes, content_type: str = TYPE, **options: Any) -> TestResponse:
    return user.request("POST", "/chat/attachments", data=body, content_type=content_type, **options)


def incoming(app: Flask) -> list[Path]:
    return list((Path(app.config["DATA_DIR"]) / "files" / "incoming").glob("*"))


def assert_refused(
    app: Flask, user: Api, response: TestResponse, status: int, field: str | None = None
) -> None:
    assert_problem(response, status, field) if field else assert_problem(response, status)
    assert (names_of(app, user), incoming(app)) == (set(), [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(form(), "file", id="no part"),
        pytest.param(form(part(MESSAGE_ID, b"x")), "file", id="no file"),
        pytest.param(form(part(FILE), part(FILE)), "file", id="two files"),
        pytest.param(form(part(FILE), part(MESSAGE_ID), part(MESSAGE_ID)), "message_id", id="two ids"),
        pytest.param(form(part(FILE), part(MESSAGE_ID, b"x")), "message_id", id="no UUID"),
        pytest.param(form(part(FILE), part(MESSAGE_ID, b"")), "message_id", id="empty id"),
        pytest.param(form(part(FILE), part(MESSAGE_ID, b"x" * 2000)), "message_id", id="long id"),
        pytest.param(form(part(FILE), part(MESSAGE_ID, b"\xff")), None, id="id is not UTF-8"),
        pytest.param(
            form(part(FILE), part(MESSAGE_ID.replace(b"message_id", b"user_id"))), "user_id", id="other field"
        ),
        pytest.param(form(part(FILE.replace(b'"file"', b'"upload"'))), "upload", id="other name of the file"),
        pytest.param(form(part(FILE.replace(b'; filename="a.txt"', b""))), "file", id="no file name"),
        pytest.param(form(part(FILE, b"")), "file", id="empty file"),
        pytest.param(form(part(FILE + b"\r\nContent-Transfer-Encoding: base64")), "file", id="Base64"),
        pytest.param(
            form(part(FILE + b"\r\nContent-Transfer-Encoding: Quoted-Printable")), "file", id="quoted"
        ),
        pytest.param(form(part(b"X: y")), None, id="no disposition"),
        pytest.param(form(part(b"Content-Disposition: form-data")), "(name not repeated)", id="no name"),
        pytest.param(form(part(FILE.replace(b"form-data", b"\xff\xfe"))), None, id="no Latin"),
        pytest.param(b"", "file", id="nothing"),
        pytest.param(b"some text", None, id="no form"),
        pytest.param(part(FILE), None, id="no last boundary"),
        pytest.param(part(FILE)[:-4], None, id="cut in the content"),
        pytest.param(part(FILE)[:20], None, id="cut in the head"),
        pytest.param(form(part(FILE)).replace(b"--b", b"--c"), None, id="other boundary"),
        pytest.param(form(part(FILE)).replace(b"\r\n--b--\r\n", b"--b--"), None, id="boundary in a line"),
        pytest.param(b"x" * 300_000 + form(part(FILE)), None, id="endless preamble"),
        pytest.param(form(part(FILE + b"\r\nX: " + b"y" * 300_000)), None, id="endless header"),
        pytest.param(form(part(FILE + b"\r\nX: y" * 60_000)), None, id="endless headers"),
        pytest.param(form(part(FILE)) + b"x" * 300_000, None, id="endless epilogue"),
        pytest.param(form(part(FILE), *[part(MESSAGE_ID)] * 50), "message_id", id="many parts"),
        pytest.param(form(*[b"--b\r\n\r\n\r\n"] * 50), None, id="many empty parts"),
    ],
)
def test_broken_form_is_400_and_leaves_nothing(app: Flask, ada: Api, body: bytes, field: str | None) -> None:
    assert_refused(app, ada, send(ada, body), 400, field)


def test_what_is_wrong_is_said_without_the_bytes(ada: Api) -> None:
    body = form(part(FILE.replace(b"a.txt", b"secret-\xe4.txt")))
    detail = assert_problem(send(ada, body), 400)["detail"]
    assert detail == "The form is malformed, or its end is missing: Segment header failed to decode."


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("=?utf-8?B?w6QucG5n?=", "ä.png"),
        ("=?UTF-8?Q?=C3=A4.png?=", "ä.png"),
        ("=?iso-8859-1?Q?=E4?= =?utf-8?B?w6QucG5n?=", "ää.png"),
        ("=?utf-8?B?Li4vLi4vYS5wbmc=?=", "a.png"),
        ("=?nothing?B?w6QucG5n?=", "=?nothing?B?w6QucG5n?="),
        ("=?utf-8?B?w?=", "=?utf-8?B?w?="),
        ("=?utf-8?B?w6Q=?= and more.txt", "=?utf-8?B?w6Q=?= and more.txt"),
    ],
)
def test_names_in_the_words_of_mail_are_read(ada: Api, name: str, label: str) -> None:
    response = send(ada, form(part(FILE.replace(b"a.txt", name.encode()))))
    assert response.get_json()["file_name"] == label


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""',
     "multipart/form-data; boundary=" + "x" * 300, "multipart/form-data; boundary=\u20ac"],
)  # fmt: skip
def test_form_without_a_boundary_is_400(app: Flask, ada: Api, content_type: str) -> None:
    response = ada.request(
        "POST", "/chat/attachments", data=form(part(FILE)), environ_overrides={"CONTENT_TYPE": content_type}
    )
    assert_refused(app, ada, response, 400)


@pytest.mark.parametrize("content_type", ["multipart/mixed; boundary=b", "text/plain", "image/png", ""])
def test_other_types_are_415(app: Flask, ada: Api, content_type: str) -> None:
    assert_refused(app, ada, send(ada, form(part(FILE)), content_type), 415)


def test_compressed_form_is_415(app: Flask, ada: Api) -> None:
    assert_refused(app, ada, send(ada, form(part(FILE)), headers={"Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"preamble\r\n" + form(part(FILE)) + b"epilogue", id="preamble and epilogue"),
        pytest.param(form(part(FILE))[:-2], id="no last line break"),
        pytest.param(
            form(part(b"content-disposition: form-data; filename=a.txt; name=file")), id="bare names"
        ),
        pytest.param(form(part(FILE + b"\r\nContent-Transfer-Encoding: binary")), id="encoding"),
        pytest.param(form(part(FILE + b"\r\nContent-Transfer-Encoding: 8BIT ")), id="other encoding"),
    ],
)
def test_unusual_forms_are_taken(ada: Api, body: bytes) -> None:
    response = send(ada, body)
    assert response.status_code == 201, response.get_data(as_text=True)
    assert ada.get(response.get_json()["file_path"]).get_data() == b"some text"


@pytest.mark.parametrize(
    "content",
    [b"\r\n", b"\n--b", b"\r\n--", b"--b--", b"\n--b\r\n", b"\r" * 70_000, b"\n" * 200_000,
     b"\r\n-" * 70_000, bytes(range(256)) * 1024],
)  # fmt: skip
def test_content_that_looks_like_a_boundary_is_content(ada: Api, content: bytes) -> None:
    response = send(ada, form(part(FILE, content)))
    assert response.status_code == 201, response.get_data(as_text=True)
    assert ada.get(response.get_json()["file_path"]).get_data() == content


class Trickle(io.RawIOBase):
    """A body that arrives in small pieces."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body, self._size = io.BytesIO(body), size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._body.read(min(self._size, size) if size >= 0 else self._size)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_may_end_anywhere(ada: Api, size: int) -> None:
    content = b"\r\n--\r\n--a\r\n--" * 20
    body = form(part(FILE, content))
    overrides = {"CONTENT_TYPE": TYPE, "wsgi.input": Trickle(body, size), "CONTENT_LENGTH": str(len(body))}
    response = ada.request("POST", "/chat/attachments", content_type=TYPE, environ_overrides=overrides)
    assert response.status_code == 201, response.get_data(as_text=True)
    assert ada.get(response.get_json()["file_path"]).get_data() == content


@pytest.mark.parametrize("path", ["/chat/attachments", "/v1/files", "/chat/import"])
@pytest.mark.parametrize("ends", ["login", "token"])
def test_a_file_whose_sender_was_revoked_meanwhile_is_refused(
    app: Flask, make_user: Callable[..., Api], path: str, ends: str
) -> None:
    user = sender = make_user()
    end = partial(user.post, "/auth/logout", {})
    if ends == "token":
        made = user.made("/auth/tokens", {"name": "script"})
        sender = Api(app, made["token"])
        end = partial(user.delete, f"/auth/tokens/{made['id']}")
    extra = (
        part(b'Content-Disposition: form-data; name="purpose"', b"user_data") if path == "/v1/files" else b""
    )
    body = extra + form(part(FILE))
    overrides = {"CONTENT_TYPE": TYPE, "wsgi.input": Interrupted(body, end), "CONTENT_LENGTH": str(len(body))}
    response = sender.request("POST", path, content_type=TYPE, environ_overrides=overrides)
    assert response.status_code == 401
    assert (names_of(app, user), incoming(app)) == (set(), [])


@pytest.mark.parametrize("announced", [10**12, 10**6])
def test_body_shorter_than_announced_is_refused(app: Flask, ada: Api, announced: int) -> None:
    body = form(part(FILE))
    overrides = {"CONTENT_TYPE": TYPE, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(announced)}
    response = ada.request("POST", "/chat/attachments", content_type=TYPE, environ_overrides=overrides)
    assert_refused(app, ada, response, 413 if announced > 10**9 else 400)


class Endless(io.RawIOBase):
    """A form whose file does not end."""

    def __init__(self, head: bytes) -> None:
        self._head, self.read_bytes = head, 0

    def read(self, size: int = -1) -> bytes:
        chunk = (self._head + b"x" * size)[:size]
        self._head = b""
        self.read_bytes += len(chunk)
        return chunk


@pytest.mark.parametrize("head", [b"", b"--b\r\n", part(FILE)[:-2], part(MESSAGE_ID)[:-2], b"--b--\r\n"])
def test_endless_body_is_read_to_the_limit_at_most(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setitem(app.config, "MAX_ATTACHMENT_BYTES", 1_000_000)
    stream = Endless(head)
    overrides = {
        "CONTENT_TYPE": TYPE,
        "wsgi.input": stream,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
    }
    response = ada.request("POST", "/chat/attachments", content_type=TYPE, environ_overrides=overrides)
    is_of_the_file = head == part(FILE)[:-2]
    field = "message_id" if b"message_id" in head else None
    assert_refused(app, ada, response, 413 if is_of_the_file else 400, field)
    assert stream.read_bytes < (1_200_000 if is_of_the_file else 400_000)


def test_limit_is_that_of_the_file(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MAX_ATTACHMENT_BYTES", 100_000)
    assert uploaded(ada, b"x" * 100_000, name="a.txt", claimed="")["size_bytes"] == 100_000
    response = send(ada, form(part(FILE, b"y" * 100_001)))
    assert_problem(response, 413)
    announced = {
        "CONTENT_TYPE": TYPE,
        "CONTENT_LENGTH": str(100_001 + MAX_FORM_BYTES),
        "wsgi.input": Endless(b""),
    }
    response = ada.request("POST", "/chat/attachments", content_type=TYPE, environ_overrides=announced)
    assert_problem(response, 413)


# -- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "label"),
    [
        ("cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\cat.png", "cat.png"),
        ("/etc/", "unnamed"),
        ("..", "unnamed"),
        (".", "unnamed"),
        ("...", "unnamed"),
        ("", "unnamed"),
        (None, "unnamed"),
        ("   ", "unnamed"),
        (".bashrc", "bashrc"),
        ("a\x00b.png", "ab.png"),
        ("a\r\nSet-Cookie: b.png", "aSet-Cookie: b.png"),
        ("invoice\u202egnp.exe", "invoicegnp.exe"),
        ("\u2066a\u2069\u200b\ufeff.txt", "a.txt"),
        ("re\u0301sume\u0301.pdf", "r\u00e9sum\u00e9.pdf"),
        ("\u732b.png", "\u732b.png"),
        ("\U0001f600.png", "\U0001f600.png"),
        ("a\ud800b.png", "a?b.png"),
        ("a  b\tc.png", "a bc.png"),
        ('a"b;c=d.png', 'a"b;c=d.png'),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
        ("x" * 300, "x" * 255),
        ("a." + "x" * 300, ("a." + "x" * 300)[:255]),
        ("%2e%2e%2fa.png", "%2e%2e%2fa.png"),
        ("con.txt", "con.txt"),
    ],
)
def test_names_are_labels(sent: str | None, label: str) -> None:
    assert label_of(sent) == label


@pytest.mark.parametrize(
    ("disposition", "label"),
    [
        (b'filename="../../x.txt"', "x.txt"),
        (b"filename*=UTF-8''%e7%8c%ab.txt", "\u732b.txt"),
        ('filename="\u732b.txt"'.encode(), "\u732b.txt"),
        (b'filename="a\\"b.txt"', 'a"b.txt'),
        (b'filename="a%22b.txt"', 'a"b.txt'),
        (b'filename="a.txt"; filename="b.txt"', None),
    ],
)
def test_name_of_the_form_is_the_label(ada: Api, disposition: bytes, label: str | None) -> None:
    response = send(ada, form(part(b'Content-Disposition: form-data; name="file"; ' + disposition)))
    assert response.status_code == 201
    if label is not None:
        assert response.get_json()["file_name"] == label


def test_png_stays_what_it_is(ada: Api) -> None:
    head = FILE.replace(b"a.txt", b"a.html") + b"\r\nContent-Type: application/octet-stream"
    assert send(ada, form(part(head, PNG))).get_json()["file_type"] == "image/png"
