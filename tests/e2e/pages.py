"""What the tests of pages share: a service, a demo model, and the example page of another origin, in Chromium."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page, ViewportSize

from chat_api.llm.demo_provider import DemoProvider
from examples.serve import PageServer
from tests.live.client import Person, serving
from tests.support.server import GunicornServer

PHONE: ViewportSize = {"width": 360, "height": 740}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
DESKTOP: ViewportSize = {"width": 1200, "height": 800}


@contextmanager
def listening(server: Any) -> Iterator[Any]:
    """A server of the standard library, answering in a thread."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Site:
    """The example page with all that it needs, each on a port of its own, so each another origin."""

    example: PageServer
    server: GunicornServer
    model: DemoProvider

    def person(self) -> Person:
        """Somebody with an account and the demo model."""
        person = Person(self.server)
        provider = person.post("/chat/llm-providers", {"name": "Demo", "api_endpoint": self.model.base_url})
        config = {"provider_id": provider.body["id"], "default_model": "echo"}
        assert person.post("/chat/user-llm-configs", config).status == 201
        return person


@contextmanager
def site(**settings: str) -> Iterator[Site]:
    """All of it, with a model that says 40 words a second."""
    model = DemoProvider("127.0.0.1", 0, words_per_second=40, report=lambda text: None)
    example = PageServer(0, "http://127.0.0.1:1")
    with (
        listening(model),
        listening(example),
        serving({"CORS_ORIGINS": example.origin, **settings}) as server,
    ):
        example.service = server.base_url
        yield Site(example, server, model)


class Screenshots:
    """Pictures of the page, in the folder that SCREENSHOTS names, else in one of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.environ.get("SCREENSHOTS") or folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, page: Page, name: str) -> None:
        """What is seen now, in light and in dark colours, on a wide screen and on a phone."""
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(viewport)
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=self._folder / f"{name}-{size}-{scheme}.png")
        page.set_viewport_size(DESKTOP)
        page.emulate_media(color_scheme="light")
