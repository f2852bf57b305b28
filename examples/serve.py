"""Serves the example page on this machine, and the demo model beside it: `make example`.

Nothing of this belongs to the page: any server of static files can serve it.
"""

import argparse
import http.client
import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from chat_api.llm.demo_provider import CannotListen, DemoProvider

PAGE = Path(__file__).parent / "page"
DEFAULT_SERVICE = "http://127.0.0.1:8000"
TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}  # not what this machine thinks they are


class PageServer(ThreadingHTTPServer):
    """The folder of the page, with the address of the service in place of the one that stands in index.html."""

    daemon_threads = True

    def __init__(self, port: int, service: str, folder: Path = PAGE) -> None:
        self.service = service.rstrip("/")
        super().__init__(("127.0.0.1", port), partial(_Handler, directory=str(folder)))

    @property
    def origin(self) -> str:
        """What CORS_ORIGINS of the service must name."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def index(self, text: str) -> str:
        """The page for this service. A policy names its origin: with a path it would allow that one path only."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.service))
        text = text.replace(f"connect-src {DEFAULT_SERVICE}", f"connect-src {origin}")
        return text.replace(
            f'name="service" content="{DEFAULT_SERVICE}"', f'name="service" content="{self.service}"'
        )


class _Handler(SimpleHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def do_GET(self) -> None:
        if urlsplit(self.path).path not in ("/", "/index.html"):
            super().do_GET()
            return
        content = self.server.index((Path(self.directory) / "index.html").read_text()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        # what a policy in a page can't say: nobody may put the page into a frame
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


def advice(service: str, origin: str) -> str:
    """What is missing before the page can use the service; empty if nothing is."""
    start = f"CORS_ORIGINS={origin} make run"
    url = urlsplit(service)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=5)
    try:
        connection.request("GET", f"{url.path}/healthz", headers={"Origin": origin})
        allowed = connection.getresponse().headers["Access-Control-Allow-Origin"]
    except (OSError, http.client.HTTPException):
        return f"The service is not running at {service}. Start it in another terminal:\n\n    {start}\n"
    finally:
        connection.close()
    if allowed == origin:
        return ""
    return f"The service at {service} does not allow this page. Stop it, and start it with:\n\n    {start}\n"


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the example page, and the demo model beside it.")
    parser.add_argument("--port", type=int, default=8200)
    parser.add_argument("--service", default=DEFAULT_SERVICE, help="address of the service")
    parser.add_argument("--demo-port", type=int, default=8100, help="port of the demo model")
    arguments = parser.parse_args()
    if not re.fullmatch(r"https?://[^\s\"'<>;,]+", arguments.service):
        parser.error("--service: not an http or https address")
    try:
        page = PageServer(arguments.port, arguments.service)
    except OSError as error:
        sys.exit(
            f"Can't listen on port {arguments.port}: {error.strerror}. Choose another one with EXAMPLE_PORT."
        )
    try:
        model = DemoProvider("127.0.0.1", arguments.demo_port, words_per_second=20, report=lambda text: None)
        threading.Thread(target=model.serve_forever, daemon=True).start()
    except CannotListen:
        pass  # `make demo-provider` runs already
    sys.stdout.write(
        f"The example page: {page.origin}\n{advice(page.service, page.origin)}Ctrl-C stops it.\n"
    )
    sys.stdout.flush()
    try:
        page.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
