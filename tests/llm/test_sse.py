"""The reader of server-sent events."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.egress.errors import Failed
from chat_api.llm.sse import Frame, SseReader


def read(*fragments: bytes, line_bytes: int = 1000) -> list[Frame]:
    reader = SseReader(line_bytes)
    return [frame for piece in fragments for frame in reader.feed(piece)] + reader.close()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [("", "a"), ("", "b")], id="lf"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [("", "a"), ("", "b")], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")], id="cr"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [("", "a"), ("", "b")], id="mixed"),
        pytest.param(b"data:a\n\n", [("", "a")], id="no-space"),
        pytest.param(b"data:  a\n\n", [("", " a")], id="only-one-space-goes"),
        pytest.param(b"data: a\ndata: b\ndata\n\n", [("", "a\nb\n")], id="several-lines"),
        pytest.param(b": ping\n\ndata: a\n: b\n\n", [("", "a")], id="comments"),
        pytest.param(b"id: 7\nretry: 10\nfoo: bar\ndata: a\n\n", [("", "a")], id="other-fields"),
        pytest.param(
            b"event: message_stop\ndata: a\n\ndata: b\n\n", [("message_stop", "a"), ("", "b")], id="name"
        ),
        pytest.param(b"event: ping\n\ndata: b\n\n", [("", "b")], id="name-without-data"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [("", "a")], id="bom"),
        pytest.param(b"data: a\n\ndata: b", [("", "a"), ("", "b")], id="no-line-end-at-the-end"),
        pytest.param(b"data: a\n", [("", "a")], id="no-blank-line-at-the-end"),
        pytest.param(b"data: \xff\xe2\x82\n\n", [("", "\ufffd\ufffd")], id="invalid-utf-8"),
        pytest.param(
            "data: a\u2028b\u0085\x0b\n\n".encode(), [("", "a\u2028b\u0085\x0b")], id="not-line-ends"
        ),
        pytest.param(b"\n\n\r\n", [], id="nothing"),
    ],
)
def test_stream_is_read(stream: bytes, expected: list[tuple[str, str]]) -> None:
    assert read(stream) == expected
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == expected


LINES = st.sampled_from(
    [
        b"data: x",
        b"data:{}",
        b"data",
        b"event: e",
        b": c",
        b"id: 1",
        b"",
        b"",
        "data: ü€😀".encode(),
        b"data: \xff",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(
    lines=st.lists(st.tuples(LINES, ENDS), max_size=20),
    cuts=st.lists(st.integers(0, 300), max_size=20),
    bom=st.booleans(),
)
def test_where_the_bytes_are_cut_does_not_matter(
    lines: list[tuple[bytes, bytes]], cuts: list[int], bom: bool
) -> None:
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in lines)
    offsets = [0, *sorted(cuts), len(stream)]
    fragments = [stream[start:stop] for start, stop in pairwise(offsets)]
    assert read(*fragments) == read(stream)


def test_an_event_is_given_with_the_bytes_that_complete_it() -> None:
    reader = SseReader(100)
    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\ndata: b\n\nda") == [("", "a"), ("", "b")]
    assert reader.feed(b"ta: c\r\n\r") == [("", "c")]  # the rest of the line end can't change it
    assert reader.feed(b"\ndata: d\n\n") == [("", "d")]


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param([b"data: a\n\n", b"data: " + b"x" * 200], id="in-one-piece"),
        pytest.param([b"data: a\n\n", *[b"x" * 10] * 20], id="in-fragments"),
        pytest.param([b"data: a\n\n", b"data: " + b"x" * 200 + b"\n\n"], id="with-its-end"),
        pytest.param([b"data: a\n\n", b"data: xxxxxxxxxx\n" * 20], id="many-lines-of-one-event"),
        pytest.param([b"data: a\n\n", b"data\n" * 101], id="many-empty-lines-of-one-event"),
    ],
)
def test_a_line_that_is_too_long_ends_it_but_takes_nothing_away(fragments: list[bytes]) -> None:
    reader, frames = SseReader(100), list[Frame]()

    def feed_all() -> None:
        for piece in [*fragments, b"more"]:
            frames.extend(reader.feed(piece))

    with pytest.raises(Failed, match="100 bytes"):
        feed_all()
    assert frames == [("", "a")]


def test_a_line_of_the_longest_length_is_read() -> None:
    assert read(b"data: " + b"x" * 94 + b"\n\n", line_bytes=100) == [("", "x" * 94)]
