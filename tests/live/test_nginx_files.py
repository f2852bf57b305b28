"""Uploads and downloads through the real nginx with deploy/nginx.conf, which sends the bytes itself."""

import http.client
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.client import SETTINGS, Answer, Person, assert_problem, read_answer, serving, wait_until
from tests.live.test_nginx import SECURITY_HEADERS, ask, bearer, connect, head, json_request
from tests.live.uploads import BOUNDARY, CLOSING, TYPE, opening, send_file
from tests.support.nginx import Nginx
from tests.support.s3 import BUCKET, S3Server
from tests.support.server import GunicornServer

MIB = 2**20
PAGE = "https://app.example.org"
CONTENT = b"".join(b"%07d\n" % number for number in range(100_000))  # 800 KB, no part like another
BEHIND_NGINX = SETTINGS | {
    "TRUSTED_PROXIES": "1",
    "ACCEL_REDIRECT": "/internal-files/",
    "CORS_ORIGINS": PAGE,
    "WEB_CONCURRENCY": "1",
}
# what tells apart who sent the bytes: nothing that matters to a client
OF_THE_PROXY = {
    "Server",
    "Date",
    "Connection",
    "X-Request-ID",
    "Strict-Transport-Security",
    "X-Frame-Options",
}


class Site:
    """A service behind its nginx, and somebody who uses it."""

    def __init__(self, server: GunicornServer, nginx: Nginx) -> None:
        self.server, self.nginx = server, nginx
        self.person = Person(server)

    @property
    def files(self) -> Path:
        return Path(self.server.environment["DATA_DIR"]) / "files"

    def upload(self, content: bytes, name: str = "a.bin") -> dict[str, Any]:
        answer = send_file(self.person, content, name=name)
        assert answer.status == 201, answer
        made: dict[str, Any] = answer.body
        return made

    def get(self, path: str, *fields: str, method: str = "GET", token: bool = True) -> Answer:
        """What a client gets from nginx."""
        sent = [*fields, *([bearer(self.person)] if token else ())]
        if method != "HEAD":
            return ask(self.nginx, head(method, path, *sent))
        with connect(self.nginx) as connection:
            connection.sendall(head(method, path, *sent, "Connection: close"))
            raw = b"".join(iter(lambda: connection.recv(65536), b""))
        lines, _, body = raw.partition(b"\r\n\r\n")
        status, *rest = lines.decode().split("\r\n")
        return Answer(int(status.split()[1]), dict(line.split(": ", 1) for line in rest), body)

    def directly(self, path: str, **headers: str) -> Answer:
        """What the service answers itself, as a proxy gets it."""
        return Answer(*self.server.request("GET", path, token=self.person.token, headers=headers))


@contextmanager
def site(settings: Mapping[str, str] | None = None, *, files: Path | None = None) -> Iterator[Site]:
    with serving(BEHIND_NGINX | dict(settings or {})) as server:
        own = Path(server.environment["DATA_DIR"]) / "files"
        with Nginx(server.port, files=files or own) as nginx:
            yield Site(server, nginx)


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[Site]:
    """The same without ACCEL_REDIRECT: the service sends the bytes."""
    with site({"ACCEL_REDIRECT": ""}) as made:
        yield made


def fields_of(answer: Answer) -> dict[str, str]:
    """Every header, once; those that are there twice would show as a list."""
    names = {name.title() for name in answer.headers} - {name.title() for name in OF_THE_PROXY}
    return {name: ", ".join(answer.headers.get_all(name)) for name in names}


LONG = "\ufdfa" * 251 + ".bin"  # each is 18 letters in ASCII


@pytest.mark.parametrize(
    "name", ["a.bin", "überall.pdf", "page.html", "cat.svg", pytest.param(LONG, id="long")]
)
def test_download_is_the_same_whoever_sends_it(running: Site, plain: Site, name: str) -> None:
    body = {"page.html": b"<!doctype html><script>1</script>", "cat.svg": b"<svg onload='1'/>"}.get(
        name, CONTENT
    )
    if name.endswith("pdf"):
        body = b"%PDF-1.4" + CONTENT
    answers = []
    for each in (running, plain):
        attachment = each.upload(body, name)
        answers.append(each.get(attachment["file_path"], f"Origin: {PAGE}"))
        assert answers[-1].status == 200
        assert answers[-1].body == body
        for header in SECURITY_HEADERS:
            assert answers[-1].headers.get_all(header) == [SECURITY_HEADERS[header]], header
        assert len(answers[-1].headers.get_all("X-Request-ID")) == 1
    first, second = (fields_of(answer) for answer in answers)
    # each was uploaded at a moment of its own
    assert first.pop("Last-Modified")
    assert second.pop("Last-Modified")
    assert first == second
    assert first["Content-Security-Policy"].startswith("sandbox;")
    assert first["Access-Control-Allow-Origin"] == PAGE
    assert first["Cross-Origin-Resource-Policy"] == "same-origin"
    assert first["Cache-Control"] == "private, no-cache"


def test_nginx_sends_the_bytes_and_not_the_service(running: Site) -> None:
    attachment = running.upload(CONTENT)
    answer = running.directly(attachment["file_path"])
    assert (answer.status, answer.body) == (200, None)
    [location] = answer.headers.get_all("X-Accel-Redirect")
    [stored] = [path for path in running.files.glob("*-*/*") if path.read_bytes() == CONTENT]
    assert location == f"/internal-files/{stored.relative_to(running.files)}"
    through = running.get(attachment["file_path"])
    assert through.body == CONTENT
    assert "X-Accel-Redirect" not in through.headers


@pytest.mark.parametrize(
    ("fields", "status", "start", "stop"),
    [
        (["Range: bytes=0-99"], 206, 0, 100),
        (["Range: bytes=799990-"], 206, 799_990, 800_000),
        (["Range: bytes=-10"], 206, 799_990, 800_000),
        (["Range: bytes=100-99999999"], 206, 100, 800_000),
        (["Range: bytes=0-9", "If-Range: {etag}"], 206, 0, 10),
        (["Range: bytes=0-9", "If-Range: {date}"], 206, 0, 10),
        (["Range: bytes=0-9", 'If-Range: "another"'], 200, 0, 800_000),
        (["Range: bytes=0-9", "If-Range: Mon, 01 Jan 2024 00:00:00 GMT"], 200, 0, 800_000),
        (["Range: bytes=x"], 200, 0, 800_000),
        (["Range: bytes=9-1"], 200, 0, 800_000),
        (["Range: lines=0-9"], 200, 0, 800_000),
        (["Range: bytes=0-9,10-19"], 206, 0, 20),
        (["Range: bytes=0-9,50-59"], 200, 0, 800_000),
        (["If-Match: {etag}"], 200, 0, 800_000),
        (["If-Unmodified-Since: {date}"], 200, 0, 800_000),
        (['If-None-Match: "another"'], 200, 0, 800_000),
        (["If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT"], 200, 0, 800_000),
    ],
    ids=str,
)
def test_ranges_and_conditions_are_those_of_the_service(
    running: Site, plain: Site, fields: list[str], status: int, start: int, stop: int
) -> None:
    for each in (running, plain):
        attachment = each.upload(CONTENT)
        date = each.get(attachment["file_path"], "Range: bytes=0-0").headers["Last-Modified"]
        names = {"etag": f'"{attachment["sha256"]}"', "date": date}
        answer = each.get(attachment["file_path"], *(field.format(**names) for field in fields))
        assert (answer.status, answer.body) == (status, CONTENT[start:stop])
        assert answer.headers["Content-Length"] == str(stop - start)
        assert answer.headers.get_all("ETag") == [names["etag"]]
        assert answer.headers.get_all("Last-Modified") == [date]
        expected = f"bytes {start}-{stop - 1}/{len(CONTENT)}" if status == 206 else None
        assert answer.headers["Content-Range"] == expected


def test_what_has_no_bytes_is_answered_by_the_service(running: Site) -> None:
    attachment = running.upload(CONTENT)
    path, etag = attachment["file_path"], f'"{attachment["sha256"]}"'
    same = running.get(path, f"If-None-Match: {etag}")
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    date = running.get(path).headers["Last-Modified"]
    assert running.get(path, f"If-Modified-Since: {date}").status == 304
    assert_problem(running.get(path, 'If-Match: "another"'), 412)
    beyond = running.get(path, "Range: bytes=800000-")
    assert_problem(beyond, 416)
    assert beyond.headers["Content-Range"] == "bytes */800000"
    found = running.get(path, "Range: bytes=0-9", method="HEAD")
    assert (found.status, found.body) == (200, b"")
    assert (found.headers["Content-Length"], found.headers["ETag"]) == (str(len(CONTENT)), etag)
    assert_problem(running.get(path, token=False), 401)
    stranger = Person(running.server)
    assert_problem(ask(running.nginx, head("GET", path, bearer(stranger))), 404)


def test_internal_location_can_not_be_reached_from_outside(running: Site) -> None:
    running.upload(CONTENT)
    for stored in running.files.glob("*-*/*"):
        name = stored.relative_to(running.files)
        for path in (f"/internal-files/{name}", f"/internal-files/../internal-files/{name}", f"//internal-files/{name}",
                     f"/chat/../internal-files/{name}", f"/internal%2dfiles/{name}"):  # fmt: skip
            assert_problem(running.get(path), 404)
            assert_problem(running.get(path, "X-Accel-Redirect: /internal-files/"), 404)


@pytest.mark.parametrize("path", ["/chat/attachments", "/v1/files"])
def test_upload_of_more_than_a_usual_body_passes_and_is_nowhere_on_nginx_disk(
    running: Site, path: str
) -> None:
    size = 3 * MIB
    purpose = b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n' % BOUNDARY
    form = [
        purpose if path == "/v1/files" else b"",
        opening(),
        *[bytes([number]) * MIB for number in range(3)],
        CLOSING,
    ]
    length = f"Content-Length: {sum(map(len, form))}"
    on_disk = 0
    with connect(running.nginx) as connection:
        connection.sendall(head("POST", path, f"Content-Type: {TYPE}", length, bearer(running.person)))
        for part in form:
            connection.sendall(part)
            on_disk = max(on_disk, running.nginx.bytes_on_disk)
        answer = read_answer(connection)
    assert (answer.status < 300, on_disk) == (True, 0), answer
    content = answer.body.get("file_path") or f"{path}/{answer.body['id']}/content"
    assert len(running.get(content).body) == size
    too_large = head("POST", path, f"Content-Type: {TYPE}", f"Content-Length: {102 * MIB}")
    assert ask(running.nginx, too_large).status == 413
    stranger = head("POST", path, f"Content-Type: {TYPE}", f"Content-Length: {size}")
    assert ask(running.nginx, stranger).status == 401


def link_to(site: Site, attachment: dict[str, Any], **options: Any) -> str:
    body = json.dumps(options).encode()
    answer = ask(
        site.nginx, json_request(f"/chat/attachments/{attachment['id']}/link", body, bearer(site.person))
    )
    assert answer.status == 200, answer
    return str(answer.body["url"])


def test_link_works_without_a_token_and_is_in_no_log(running: Site) -> None:
    attachment = running.upload(CONTENT)
    once, often = link_to(running, attachment, single_use=True), link_to(running, attachment)
    assert running.get(once, token=False, method="HEAD").status == 200
    assert running.get(once, token=False).body == CONTENT
    assert_problem(running.get(once, token=False), 401)
    part = running.get(often, "Range: bytes=0-9", "Referer: https://app.example.org/", token=False)
    assert (part.status, part.body) == (206, CONTENT[:10])
    assert_problem(running.get(f"{often}x", token=False), 401)
    secrets = [url.partition("link=")[2] for url in (once, often)]
    line = f'"GET {attachment["file_path"]} HTTP/1.1" 206 10 '
    wait_until(lambda: line in running.nginx.log)
    for log in (running.nginx.log, running.server.log):
        assert not [secret for secret in secrets if secret in log or secret[:40] in log]


def test_what_nginx_can_not_find_or_read_is_a_problem(tmp_path: Path) -> None:
    """It was deleted at this moment, or the location is set up wrongly."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with site(files=elsewhere) as running:
        attachment = running.upload(CONTENT)
        answer = running.get(attachment["file_path"])
        assert_problem(answer, 404)
        assert {name: answer.headers.get_all(name) for name in SECURITY_HEADERS} == {
            name: [value] for name, value in SECURITY_HEADERS.items()
        }
        assert len(answer.headers.get_all("Cache-Control")) == 1
        # lost bytes are the service's to tell, as without nginx
        shutil.rmtree(running.files)
        assert_problem(running.get(attachment["file_path"]), 404)


def test_file_that_was_cut_is_not_sent_as_a_whole_one(running: Site) -> None:
    content = CONTENT + b"cut"
    attachment = running.upload(content)
    [stored] = [path for path in running.files.glob("*-*/*") if path.stat().st_size == len(content)]
    stored.write_bytes(content[:-1])
    with connect(running.nginx) as connection:
        connection.sendall(head("GET", attachment["file_path"], bearer(running.person)))
        with pytest.raises(http.client.IncompleteRead):
            read_answer(connection)


def test_service_sends_what_is_in_the_second_storage(tmp_path: Path) -> None:
    first = tmp_path / "first"
    with site({"ATTACHMENT_STORAGE": str(first)}, files=first) as running:
        moved, kept = running.upload(CONTENT), running.upload(CONTENT[1:])
        [stored] = [path for path in first.glob("*-*/*") if path.read_bytes() == CONTENT]
        second = running.files / stored.relative_to(first)
        second.parent.mkdir(parents=True)
        stored.rename(second)
        assert running.directly(moved["file_path"]).body == CONTENT
        assert running.directly(kept["file_path"]).headers["X-Accel-Redirect"]
        for attachment, content in ((moved, CONTENT), (kept, CONTENT[1:])):
            answer = running.get(attachment["file_path"], "Range: bytes=5-")
            assert (answer.status, answer.body) == (206, content[5:])


@pytest.mark.slow
def test_service_sends_what_is_in_a_bucket() -> None:
    with (
        S3Server() as bucket,
        site({"ATTACHMENT_STORAGE": f"s3://{BUCKET}/x", **bucket.environment}) as running,
    ):
        attachment = running.upload(CONTENT)
        assert running.directly(attachment["file_path"]).body == CONTENT
        answer = running.get(attachment["file_path"], "Range: bytes=5-")
        assert (answer.status, answer.body) == (206, CONTENT[5:])
        assert running.get(link_to(running, attachment, single_use=True), token=False).body == CONTENT
