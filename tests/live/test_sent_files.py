"""Files that are sent to a model by a running service: a request with many megabytes of them takes little memory."""

import base64
import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.live.client import SETTINGS, Person
from tests.live.test_uploads import HighestMemory
from tests.live.uploads import send_file
from tests.support.provider import ScriptedProvider
from tests.support.server import GunicornServer

PICTURES = 5
MAX_GROWTH_MIB = 15  # of which reading the images' package and the first call take some
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """One worker, whose memory is looked at."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "1"}
    with GunicornServer(settings, migrate=False) as running:
        yield running


def picture(seed: int) -> bytes:
    """Four million bytes that can't be compressed."""
    output = io.BytesIO()
    Image.frombytes("RGB", (1150, 1150), random.Random(seed).randbytes(1150 * 1150 * 3)).save(output, "PNG")
    return output.getvalue()


def test_twenty_megabytes_of_images_take_little_memory(server: GunicornServer) -> None:
    person = Person(server)
    with ScriptedProvider() as provider:
        made: Any = person.post("/chat/llm-providers", {"name": "P", "api_endpoint": provider.url}).body
        person.post("/chat/user-llm-configs", {"provider_id": made["id"], "api_key": "sk-0123456789"})
        asked = {"conversation_id": person.conversation(), "provider_id": made["id"], "model": "m"}
        pictures = [picture(seed) for seed in range(PICTURES)]
        ids = [send_file(person, content).body["id"] for content in pictures]
        small = io.BytesIO()
        Image.new("RGB", (9, 9)).save(small, "PNG")
        warm = {"content": "Hello", "attachment_ids": [send_file(person, small.getvalue()).body["id"]]}
        assert person.post("/chat/completions", asked | warm).status == 201
        memory = HighestMemory(server)
        memory.start()
        answer = person.post("/chat/completions", asked | {"content": "Look", "attachment_ids": ids})
        growth = memory.growth_mib()
        assert answer.status == 201, answer
        assert sum(map(len, pictures)) > 19_000_000
        sent = provider.last.json["messages"][-1]["content"]
        urls = [part["image_url"]["url"] for part in sent if part["type"] == "image_url"]
        assert [base64.b64decode(url.partition(",")[2]) for url in urls] == pictures
    assert growth < MAX_GROWTH_MIB, f"{growth:.0f} MiB"
