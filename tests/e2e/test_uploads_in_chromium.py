"""What a user has uploaded never runs in a real Chromium, however it is opened; pictures are shown where they may."""

import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from examples.serve import PageServer
from tests.e2e.node import TIMEOUT_S
from tests.e2e.pages import Site, listening
from tests.live.client import Person, wait_until
from tests.live.uploads import send_file

pytestmark = pytest.mark.timeout(TIMEOUT_S)
# each says that it has run by a request, or by a dialog
FILES = {
    "page.html": b"<!doctype html><title>runs</title><script>fetch('{beacon}'); new Image().src = '{beacon}'</script>"
    b"<img src=x onerror=\"fetch('{beacon}')\"><meta http-equiv=refresh content='0;url={beacon}'>"
    b"<form id=f action='{beacon}'></form><svg onload=\"f.submit()\"></svg>",
    "picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload=\"fetch('{beacon}')\"><script>fetch('{beacon}')"
    b"</script><image href='{beacon}'/></svg>",
    "script.js": b"fetch('{beacon}')",
    "style.css": b"@import url('{beacon}'); body {{ background: url('{beacon}') }}",
    "document.xml": b"<?xml version='1.0'?><a xmlns:h='http://www.w3.org/1999/xhtml'><h:script>fetch('{beacon}')"
    b"</h:script></a>",
    "document.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert\\(1\\);"
    b"app.launchURL\\('{beacon}'\\))>>>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
}
RUNS_BY_ITSELF = ("page.html", "picture.svg", "document.xml")
TYPES = {"page.html": "text/html", "picture.svg": "image/svg+xml", "document.xml": "application/xml",
         "script.js": "text/javascript", "style.css": "text/css", "document.pdf": "application/pdf"}  # fmt: skip
EMBEDDED = """async ({tag, name, url}) => {
  const element = document.createElement(tag);
  if (tag === "link") element.rel = "stylesheet";
  element[name] = url;
  const ended = new Promise(resolve => { element.onload = element.onerror = resolve; setTimeout(resolve, 1500); });
  document.body.append(element);
  await ended;
}"""
PICTURE = """async ({url, origin}) => {
  const picture = new Image();
  if (origin !== null) picture.crossOrigin = origin;
  const ended = new Promise(resolve => { picture.onload = picture.onerror = resolve; });
  picture.src = url;
  await ended;
  return picture.naturalWidth;
}"""


def png() -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0abc"))
        + chunk(b"IEND", b"")
    )


class Beacon(ThreadingHTTPServer):
    """Another origin: it has an empty page, counts who asks for /ran, and serves files as what they are."""

    daemon_threads = True

    def __init__(self) -> None:
        self.hits: list[str] = []
        super().__init__(("127.0.0.1", 0), _BeaconHandler)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def content(self, name: str) -> bytes:
        """The file, whose scripts ask for /ran."""
        return (
            FILES[name]
            .replace(b"{{", b"{")
            .replace(b"}}", b"}")
            .replace(b"{beacon}", f"{self.origin}/ran".encode())
        )


class _BeaconHandler(BaseHTTPRequestHandler):
    server: Beacon

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        if name == "ran":
            self.server.hits.append(self.headers.get("Referer", ""))
        body = self.server.content(name) if name in FILES else b"<!doctype html><title>empty</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(name, "text/html"))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def beacon() -> Iterator[Beacon]:
    server = Beacon()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(accept_downloads=True)
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def person(running: Site) -> Person:
    return running.person()


def uploaded(person: Person, beacon: Beacon, name: str) -> dict[str, Any]:
    answer = send_file(person, beacon.content(name), name=name)
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.body
    return found


def link_to(person: Person, attachment: dict[str, Any], **options: Any) -> str:
    made = person.post(f"/chat/attachments/{attachment['id']}/link", options)
    assert made.status == 200, made
    return person.server.base_url + str(made.body["url"])


def assert_nothing_runs(page: Page, beacon: Beacon) -> None:
    page.wait_for_timeout(700)
    assert beacon.hits == []


def saved(page: Page, url: str) -> bytes:
    """The file that the browser saves instead of opening it."""
    with page.expect_download() as download:
        page.evaluate("url => { location.href = url }", url)
    assert page.url != url
    return download.value.path().read_bytes()


@pytest.mark.parametrize("name", RUNS_BY_ITSELF)
def test_the_same_file_of_another_server_runs(context: BrowserContext, beacon: Beacon, name: str) -> None:
    """Without this the others could have another reason."""
    page = context.new_page()
    page.goto(f"{beacon.origin}/{name}")
    wait_until(lambda: beacon.hits or page.wait_for_timeout(20))


@pytest.mark.parametrize("name", FILES)
def test_an_upload_that_is_opened_is_saved(
    context: BrowserContext, person: Person, beacon: Beacon, name: str
) -> None:
    """With a token, and by a link for a single use."""
    page = context.new_page()
    page.on("dialog", lambda dialog: beacon.hits.append(dialog.message))
    attachment = uploaded(person, beacon, name)
    page.goto(beacon.origin)
    assert saved(page, link_to(person, attachment, single_use=True)) == beacon.content(name)
    context.set_extra_http_headers({"Authorization": f"Bearer {person.token}"})
    assert saved(page, person.server.base_url + attachment["file_path"]) == beacon.content(name)
    assert_nothing_runs(page, beacon)


@pytest.mark.parametrize("name", FILES)
def test_an_upload_that_is_embedded_does_not_run(
    context: BrowserContext, person: Person, running: Site, beacon: Beacon, name: str
) -> None:
    """By a page of another origin, and by one of the service's own."""
    link = link_to(person, uploaded(person, beacon, name))
    page = context.new_page()
    page.on("dialog", lambda dialog: beacon.hits.append(dialog.message))
    for origin in (beacon.origin, person.server.base_url):
        # as if somebody had found a way to have a page of the service's origin
        context.route(f"{person.server.base_url}/page", lambda route: route.fulfill(
            body="<!doctype html><body>", content_type="text/html"))  # fmt: skip
        page.goto(f"{origin}/page")
        for tag, attribute in (("iframe", "src"), ("object", "data"), ("embed", "src"), ("script", "src"),
                               ("link", "href"), ("img", "src"), ("video", "src")):  # fmt: skip
            page.evaluate(EMBEDDED, {"tag": tag, "name": attribute, "url": link})
        assert_nothing_runs(page, beacon)


@pytest.mark.parametrize("name", RUNS_BY_ITSELF)
def test_an_upload_that_is_displayed_all_the_same_does_not_run(
    context: BrowserContext, person: Person, beacon: Beacon, name: str
) -> None:
    """The policy alone is enough: here the browser gets the real type, and is not told to save it."""
    link = link_to(person, uploaded(person, beacon, name))

    def as_it_is(route: Route) -> None:
        answer = route.fetch()
        headers = {key: value for key, value in answer.headers.items() if key != "content-disposition"}
        route.fulfill(response=answer, headers=headers | {"content-type": TYPES[name]})

    context.route(lambda url: "link=" in url, as_it_is)
    page = context.new_page()
    page.goto(link)
    assert_nothing_runs(page, beacon)
    assert page.evaluate("self.origin") == "null"


def test_the_text_of_a_page_is_shown_as_text(context: BrowserContext, person: Person, beacon: Beacon) -> None:
    attachment = uploaded(person, beacon, "page.html")
    escaped = send_file(
        person, b"<p>&lt;script&gt;fetch('%b/ran')&lt;/script&gt;" % beacon.origin.encode(), name="a.html"
    )
    page = context.new_page()
    page.goto(beacon.origin)
    context.set_extra_http_headers({"Authorization": f"Bearer {person.token}"})
    for made in (attachment, escaped.body):
        path = f"/chat/attachments/{made['id']}/text"
        wait_until(lambda path=path: person.get(path).status != 409)  # type: ignore[misc]
        page.goto(person.server.base_url + path)
        assert_nothing_runs(page, beacon)
    assert "<script>" in page.content().replace("&lt;", "<").replace("&gt;", ">")


def test_a_picture_is_shown_by_a_link_where_it_may_be(
    context: BrowserContext, running: Site, person: Person
) -> None:
    """On pages that CORS_ORIGINS names, with `crossorigin`; without it, and on other pages, it is not."""
    attachment = send_file(person, png(), name="a.png").body
    link = link_to(person, attachment)
    page = context.new_page()
    page.goto(running.example.origin + "/nothing")
    assert page.evaluate(PICTURE, {"url": link, "origin": "anonymous"}) == 1
    assert page.evaluate(PICTURE, {"url": link, "origin": None}) == 0
    with listening(PageServer(0, person.server.base_url)) as stranger:
        page.goto(stranger.origin + "/nothing")
        for origin in ("anonymous", None):
            assert page.evaluate(PICTURE, {"url": link, "origin": origin}) == 0
    assert person.delete(f"/chat/attachments/{attachment['id']}").status == 204
    page.goto(running.example.origin + "/nothing")
    assert page.evaluate(PICTURE, {"url": link, "origin": "anonymous"}) == 0
