"""Long files are taken out of a provider's response while it arrives; nothing else of it changes."""

import base64
import io
import json
import random
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

from chat_api.llm import base64_content
from chat_api.llm.base64_content import BROKEN, NO_SPACE, TOO_LARGE, Decoder, LongRuns, Unreadable
from chat_api.llm.events import FileData
from tests.llm.reading import answer

INLINE = 4096


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base64_content, "MIN_INLINE_BYTES", INLINE)


def runs_of(
    open_file: Callable[[], IO[bytes]] = io.BytesIO, reply_bytes: int = INLINE, file_bytes: int = 10**6
) -> LongRuns:
    return LongRuns(open_file=open_file, reply_bytes=reply_bytes, file_bytes=file_bytes)


def cut(body: bytes, seed: int) -> Iterator[bytes]:
    """The body in parts of any size."""
    chance, at = random.Random(seed), 0
    while at < len(body):
        size = chance.choice((1, 2, 3, 7, 100, 1000, 2000))
        yield body[at : at + size]
        at += size


def fed(runs: LongRuns, parts: Iterator[bytes]) -> bytes:
    return b"".join([*map(runs.feed, parts), runs.rest()])


def content_in(runs: LongRuns, text: str) -> bytes:
    """What a parsed string has of a file, as a reader of media takes it."""
    begin = text.find("base64,") + 7 if "base64," in text else 0
    end, rest = runs.content_at(text, len(text))
    decoder = Decoder()
    content = b"".join([*decoder.blocks(text, begin, end), *decoder.rest()])
    return content + (b"".join(rest.blocks()) if rest else b"")


ESCAPES: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: text.replace("/", "\\/"),
    lambda text: text.replace("+", "\\u002B").replace("=", "\\u003d").replace("/", "\\u002f"),
]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("escape", ESCAPES, ids=["plain", "slashes", "all"])
def test_files_and_texts_come_out_as_they_went_in(seed: int, escape: Callable[[str], str]) -> None:
    chance = random.Random(seed)
    contents = [chance.randbytes(chance.choice((0, 1, 10, 1000, 3000, 3072, 5000, 20_000))) for _ in range(6)]
    texts = [
        "a, b",
        'say "x"',
        "tab\t",
        "a" * 4000,
        "ends with a slash/",
        "\\",
        "é" * 50,
        "data:,",
        "x=" * 30,
    ]
    value: dict[str, Any] = {}
    for number, content in enumerate(contents):
        value[f"text{number}"] = chance.choice(texts)
        head = chance.choice(("", "data:image/png;base64,"))
        value[f"file{number}"] = head + base64.b64encode(content).decode()
    body = escape(json.dumps(value)).encode()
    runs = runs_of()
    parsed = json.loads(fed(runs, cut(body, seed)))
    for number, content in enumerate(contents):
        assert parsed[f"text{number}"] == value[f"text{number}"]
        assert content_in(runs, parsed[f"file{number}"]) == content
        assert len(parsed[f"file{number}"]) < INLINE + 2100, "What is long is not in the JSON."


def test_nothing_is_changed_of_what_may_be_kept() -> None:
    body = json.dumps({"a": "A" * INLINE, "b": "b" * (INLINE // 2)}).encode()
    runs = runs_of()
    assert fed(runs, cut(body, 1)) == body


def test_text_is_cut_after_all_that_may_be_kept_of_it() -> None:
    for seed in range(20):
        text = json.loads(fed(runs_of(), cut(json.dumps("A" * 50_000).encode(), seed)))
        assert text[:INLINE] == "A" * INLINE


def test_mark_of_a_provider_is_no_mark() -> None:
    runs = runs_of()
    text = f"#{'0' * 32}:000000#"
    assert runs.content_at(text, len(text)) == (len(text), None)
    long = json.dumps("A" * 50_000).encode()
    json.loads(fed(runs, cut(long, 1)))
    assert runs.content_at(text, len(text)) == (len(text), None)


class FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def no_file() -> IO[bytes]:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("options", "text", "problem"),
    [
        ({"file_bytes": 1000}, "A" * 50_000, TOO_LARGE),
        ({"open_file": FullDisk}, "A" * 50_000, NO_SPACE),
        ({"open_file": no_file}, "A" * 50_000, NO_SPACE),
        ({}, "A" * 49_997, BROKEN),
    ],
)
def test_what_can_not_be_read(options: dict[str, Any], text: str, problem: str) -> None:
    runs = runs_of(**options)
    parsed = json.loads(fed(runs, cut(json.dumps(text).encode(), 1)))
    with pytest.raises(Unreadable, match=problem):
        content_in(runs, parsed)
    runs.close()


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 77])
@pytest.mark.parametrize("is_padded", [True, False])
def test_decoder_takes_pieces_of_any_size(piece: int, is_padded: bool) -> None:
    content = bytes(range(256)) * 3
    decoder, whole = Decoder(), b""
    if is_padded:  # each piece by itself
        pieces = [base64.b64encode(content[at : at + piece]).decode() for at in range(0, len(content), piece)]
    else:
        text = base64.urlsafe_b64encode(content).decode().rstrip("=")
        pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    for text in pieces:
        whole += b"".join(decoder.blocks(text, 0, len(text)))
    assert whole + b"".join(decoder.rest()) == content


def test_content_is_read_only_where_it_is_wanted() -> None:
    """A parser that passes a file on has decoded nothing of it."""
    from chat_api.llm import openai

    url = "data:image/png;base64," + "é" * 1000
    events = openai.parse_json_reply(
        answer({"content": "", "images": [url]}), secrets="key", reply_bytes=10**6
    )
    [data] = [event for event in events if isinstance(event, FileData)]
    with pytest.raises(Unreadable, match=BROKEN):
        list(data.content)
