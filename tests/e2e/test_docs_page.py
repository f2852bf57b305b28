"""The page /docs in a real Chromium: authorize once, and try the examples as they stand."""

import http.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.node import TIMEOUT_S
from tests.e2e.pages import Screenshots, listening
from tests.live.client import Person, serving
from tests.support.server import GunicornServer

pytestmark = pytest.mark.timeout(TIMEOUT_S)
PREFIX = "/team/chat"
# objects before what is made in them, and what reads them
TRIED = {
    "create_conversation": 201,
    "list_conversations": 200,
    "get_conversation": 200,
    "update_conversation": 200,
    "create_message": 201,
    "list_messages": 200,
    "get_message": 200,
    "list_attachments": 200,
    "create_provider": 201,
    "get_provider": 200,
    "create_config": 201,
    "preview_completion": 200,
    "create_token": 201,
    "search_messages": 200,
    "get_usage": 200,
    "delete_conversation": 204,
}


class PrefixProxy(ThreadingHTTPServer):
    """A reverse proxy that serves the service below PREFIX and says so, as docs/deployment.md has it."""

    daemon_threads = True

    def __init__(self, service_port: int) -> None:
        self.service_port = service_port
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Forward)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{PREFIX}"


class _Forward(BaseHTTPRequestHandler):
    server: PrefixProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        self.server.paths.append(self.path)
        if not self.path.startswith(PREFIX + "/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers) | {
            "X-Forwarded-Prefix": PREFIX,
            "X-Forwarded-For": self.client_address[0],
            "X-Forwarded-Host": self.headers["Host"],
            "X-Forwarded-Proto": "http",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.server.service_port, timeout=60)
        connection.request(self.command, self.path.removeprefix(PREFIX), body, headers)
        response = connection.getresponse()
        content = response.read()
        self.send_response(response.status)
        for name, value in response.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                self.send_header(name, value)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[GunicornServer]:
    with serving({"TRUSTED_PROXIES": "1"}) as server:
        yield server


def authorize(page: Page, token: str) -> None:
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_role("textbox").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()


def execute(page: Page, operation: str) -> Locator:
    """Open an operation, and send its example as it stands."""
    block = page.locator(f"[id$='-{operation}'].opblock")
    block.locator("button.opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").last
    status.wait_for()
    return status


@pytest.mark.parametrize("is_below_prefix", [False, True], ids=["at the root", "below a prefix"])
def test_examples_work_as_they_stand(
    page: Page, service: GunicornServer, screenshots: Screenshots, is_below_prefix: bool
) -> None:
    person = Person(service)
    with listening(PrefixProxy(service.port)) as proxy:
        base_url = proxy.base_url if is_below_prefix else service.base_url
        page.goto(f"{base_url}/docs/")
        authorize(page, person.token)
        page.reload()  # the token is kept
        for operation, status in TRIED.items():
            expect(execute(page, operation)).to_have_text(str(status))
        assert len(person.get("/chat/llm-providers").body) == 1
        if is_below_prefix:
            assert all(path.startswith(PREFIX + "/") for path in proxy.paths), proxy.paths
        screenshots.take(page, "docs")
