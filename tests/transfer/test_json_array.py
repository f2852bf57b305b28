"""The elements of a large array: however it is cut while it is read, and whatever is in them."""

import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from chat_api.transfer.formats import json_array
from chat_api.transfer.limits import UnreadableFile
from chat_api.transfer.records import Pause

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('a"\\[]{},'), inner, max_size=3)
    ),
    max_leaves=8,
)


def elements_of(read: Callable[[int], bytes], *, max_bytes: int) -> Iterator[bytes | None]:
    """The elements, for which nobody has to wait."""
    for element in json_array.elements_of(read, max_bytes=max_bytes):
        assert not isinstance(element, Pause)
        yield element


def test_an_element_grows_when_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read before that, and the smaller ones wait for nobody."""
    answers = iter([False, False, True] + [True] * 9)
    raw = b'[1,2,["' + b"x" * 50 + b'"],3]'
    file = io.BytesIO(raw)
    found = json_array.elements_of(
        lambda size: file.read(10), max_bytes=100, large_bytes=20, may_grow=lambda: next(answers)
    )
    assert [next(found), next(found)] == [b"1", b"2"]
    read_so_far = set()
    for _ in range(2):
        assert isinstance(next(found), Pause)
        read_so_far.add(file.tell())
    assert len(read_so_far) == 1
    assert list(found) == [b'["' + b"x" * 50 + b'"]', b"3"]


def elements(raw: bytes, chunk: int = 7, max_bytes: int = 10**9) -> list[Any]:
    """What the array holds, read in such parts."""
    file = io.BytesIO(raw)
    found = elements_of(lambda size: file.read(min(size, chunk)), max_bytes=max_bytes)
    return [None if element is None else json.loads(element) for element in found]


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=300)
@hypothesis.given(
    values=st.lists(VALUES, max_size=5), chunk=st.integers(1, 9), indent=st.sampled_from([None, 1])
)
def test_array_is_read_whatever_the_pieces(values: list[Any], chunk: int, indent: int | None) -> None:
    for escaped in (True, False):
        raw = json.dumps(values, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        assert [json.loads(json.dumps(value)) for value in values] == [
            json.loads(element.decode("utf-8", "surrogatepass"))
            for element in elements_of(bytes_of(b" \n" + raw + b"\t", chunk), max_bytes=10**9)
            if element is not None
        ]


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(
    shape=st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(['"]"', "1", "[]", '{"a":[1]}', ""])), max_size=6
    ),
    chunk=st.integers(1, 40),
    blank=st.sampled_from(["", " "]),
)
def test_nesting_of_any_depth_is_followed(shape: list[tuple[int, str]], chunk: int, blank: str) -> None:
    """Deeper than the pattern passes at once: an element after the other, and in each other."""
    texts: list[str] = []
    for depth, inner in shape:
        within = ",".join(text for text in ["2", inner, *texts[-1:]] if text)
        texts.append(f"[{blank}1,{blank}" * depth + f"[{within}]" + f"{blank}]" * depth)
    raw = f"[{','.join(texts)}]".encode()
    assert list(elements_of(bytes_of(raw, chunk), max_bytes=10**9)) == [text.encode() for text in texts]
    assert list(elements_of(bytes_of(raw, 10**6), max_bytes=10**9)) == [text.encode() for text in texts]


def bytes_of(raw: bytes, chunk: int) -> Any:
    file = io.BytesIO(raw)
    return lambda size: file.read(min(size, chunk))


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{}", b"1", b'"[]"', b"[", b"[1", b"[1,", b'["', b'["\\', b"[]x", b"[][]"]
)
def test_what_is_no_whole_array_is_refused(raw: bytes) -> None:
    for chunk in (1, 100):
        with pytest.raises(UnreadableFile):
            elements(raw, chunk)


def test_complete_elements_come_before_the_end_is_missed() -> None:
    found = elements_of(bytes_of(b'[{"a":1}, [2], {"b', 3), max_bytes=100)
    assert [next(found), next(found)] == [b'{"a":1}', b"[2]"]
    with pytest.raises(UnreadableFile):
        next(found)


def test_missing_elements_are_elements() -> None:
    """So that a parser complains about them."""
    assert list(elements_of(bytes_of(b"[1,,2,]", 9), max_bytes=9)) == [b"1", b"", b"2", b""]
    assert list(elements_of(bytes_of(b"[ ]", 9), max_bytes=9)) == []


def test_element_that_is_too_large_is_left_out_and_not_kept() -> None:
    assert elements(b'[1,"' + b"x" * 50 + b'",2]', max_bytes=20) == [1, None, 2]
    large = b"[" + b'"' + b"x" * 30_000_000 + b'"' + b",3]"
    tracemalloc.start()
    file = io.BytesIO(large)
    try:
        assert list(elements_of(file.read, max_bytes=1_000_000)) == [None, b"3"]
        assert tracemalloc.get_traced_memory()[1] < 8 * json_array.CHUNK_BYTES + 1_000_000
    finally:
        tracemalloc.stop()


def test_deep_nesting_takes_no_memory() -> None:
    deep = b"[" + b"[" * 500_000 + b"]" * 500_000 + b",1]"
    first, second = elements_of(io.BytesIO(deep).read, max_bytes=10**7)
    assert (len(first or b""), second) == (1_000_000, b"1")
