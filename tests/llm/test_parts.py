"""Messages of more than text: each protocol's form of the parts, and bodies that are encoded while they are sent."""

import base64
import hashlib
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from chat_api.egress.errors import EgressError
from chat_api.llm.error_codes import ATTACHMENT_UNREADABLE
from chat_api.llm.history import provider_history, rules_of
from chat_api.llm.options import RequestOptions
from chat_api.llm.parts import FilePart, Kind, Part, TextPart
from chat_api.llm.parts import text_of as text_of_parts
from chat_api.llm.request import ChatMessage, ChatRequest
from tests.support.asking import AskingMaker, text_of
from tests.support.provider import Raw, ScriptedProvider

PNG = bytes(range(256)) * 3 + b"end"


class Bytes:
    """A content in memory, read in blocks of odd sizes."""

    def __init__(self, content: bytes, block_bytes: int = 100) -> None:
        self._content, self._block_bytes = content, block_bytes
        self.size_bytes, self.sha256 = len(content), hashlib.sha256(content).hexdigest()

    def blocks(self) -> Iterator[bytes]:
        for begin in range(0, len(self._content), self._block_bytes):
            yield self._content[begin : begin + self._block_bytes]


def part(kind: Kind, media_type: str, content: bytes = PNG, name: str = "a.bin") -> FilePart:
    """The content of a file."""
    return FilePart(kind, media_type, name, Bytes(content))


def user(*parts: Part) -> ChatMessage:
    """A message of the user with these parts."""
    return ChatMessage("user", text_of_parts(parts), parts=parts)


IMAGE = part("image", "image/png")
PDF = part("file", "application/pdf", b"%PDF-1.7", "Report.pdf")
ENCODED = base64.b64encode(PNG).decode()


def test_openai_gets_the_parts_in_their_order(asking: AskingMaker, provider: ScriptedProvider) -> None:
    list(asking().send(user(TextPart("Look:"), IMAGE, TextPart("and"), PDF, part("audio", "audio/mpeg"))))
    assert provider.last.json["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
                {"type": "text", "text": "and"},
                {
                    "type": "file",
                    "file": {
                        "filename": "Report.pdf",
                        "file_data": "data:application/pdf;base64,JVBERi0xLjc=",
                    },
                },
                {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "mp3"}},
            ],
        }
    ]


def test_anthropic_gets_the_parts_in_their_order(asking: AskingMaker, provider: ScriptedProvider) -> None:
    list(asking("anthropic").send(user(TextPart("Look:"), IMAGE, TextPart("  "), PDF)))
    source = {"type": "base64", "media_type": "image/png", "data": ENCODED}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjc="}
    assert provider.last.json["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": source},
                {"type": "document", "source": pdf, "title": "Report.pdf"},
            ],
        }
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 299, 300, 301, 100_000])
@pytest.mark.parametrize("block_bytes", [1, 7, 48 * 1024])
def test_bytes_that_arrive_are_those_of_the_content(
    asking: AskingMaker, provider: ScriptedProvider, size: int, block_bytes: int
) -> None:
    if size > 1000 and block_bytes == 1:
        size = 3001
    content = (PNG * 200)[:size]
    file = FilePart("image", "image/png", "a", Bytes(content, block_bytes))
    list(asking().send(user(file)))
    assert int(provider.last.headers["content-length"]) == len(provider.last.body)
    url = provider.last.json["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2], validate=True) == content


@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_messages_of_one_role_keep_all_their_parts(
    asking: AskingMaker, provider: ScriptedProvider, api_format: str
) -> None:
    list(asking(api_format).send(ChatMessage("user", "one"), user(IMAGE), user(TextPart("two"), IMAGE)))
    (message,) = provider.last.json["messages"]
    kinds = [sent["type"] for sent in message["content"]]
    picture = "image_url" if api_format == "openai" else "image"
    assert kinds == ["text", picture, "text", picture]


def test_a_message_without_text_says_something() -> None:
    rules = rules_of("openai", RequestOptions(), "m", {})
    assert provider_history([user(IMAGE)], rules, {}) == (user(IMAGE),)


class Gone(Bytes):
    """A content whose file is gone, or shorter than it was."""

    def __init__(self, error: bool) -> None:
        super().__init__(PNG)
        self._error = error

    def blocks(self) -> Iterator[bytes]:
        yield PNG[:10]
        if self._error:
            raise FileNotFoundError("no such file: /data/files/x")


@pytest.mark.parametrize("error", [True, False])
def test_content_that_is_gone_fails_with_its_own_code(
    asking: AskingMaker, provider: ScriptedProvider, error: bool
) -> None:
    with pytest.raises(EgressError) as raised:
        list(asking().send(user(FilePart("image", "image/png", "a", Gone(error)))))
    assert raised.value.code == ATTACHMENT_UNREADABLE
    assert "/data" not in raised.value.detail
    assert text_of([event for read in asking().stream() for event in read])  # the next request works


class Zeros:
    """Very many bytes that are nowhere in memory."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes, self.sha256 = size_bytes, "0" * 64

    def blocks(self) -> Iterator[bytes]:
        for _ in range(self.size_bytes // 65536):
            yield bytes(65536)


def test_large_content_is_never_in_memory(asking: AskingMaker) -> None:
    ask = asking()
    list(ask.stream())  # what is loaded on first use
    body = user(FilePart("image", "image/png", "a", Zeros(64 * 1024 * 1024)))
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[int] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            buffer, count = bytearray(65536), 0
            while count < 64 * 1024 * 1024 * 4 // 3:
                if not (size := sock.recv_into(buffer)):
                    break
                count += size
            taken.append(count)
            sock.sendall(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    thread = threading.Thread(target=serve)
    thread.start()
    ask.endpoint = type(ask.endpoint)("openai", f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "k")
    tracemalloc.start()
    try:
        with pytest.raises(EgressError):
            list(ask.send(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        thread.join()
        listener.close()
    assert taken[0] > 64 * 1024 * 1024
    assert peak < 4 * 1024 * 1024


def test_a_server_that_refuses_before_the_end_is_heard(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    answer = (
        b'HTTP/1.1 413 Too large\r\nContent-Length: 44\r\n\r\n{"error":{"message":"Request is too large."}}'
    )
    provider.script(Raw(answer))
    ask = asking()
    with pytest.raises(EgressError) as raised:
        list(ask.send(user(IMAGE)))
    assert "too large" in raised.value.detail


def test_preview_describes_contents(asking: AskingMaker) -> None:
    ask = asking()
    shown = ask.client.describe(ask.endpoint, ChatRequest("m", (user(TextPart("Look"), IMAGE, PDF),)))
    content = json.loads(json.dumps(shown))["body"]["messages"][0]["content"]
    digest = hashlib.sha256(PNG).hexdigest()
    assert content[1]["image_url"]["url"] == f"data:image/png;base64,<771 bytes, SHA-256 {digest}>"
    assert content[2]["file"]["filename"] == "Report.pdf"
