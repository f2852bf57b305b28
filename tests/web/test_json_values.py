"""Counting the values of a JSON text without parsing it."""

import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from chat_api.web.json_values import has_more_values

VALUES = st.recursive(
    st.none() | st.integers() | st.text('a"\\[]{},', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(',[{"\\', max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def counted(value: Any) -> tuple[int, int]:
    """How many values there are, and how many of them are empty arrays or objects."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    if items is None:
        return 1, 0
    inner = [counted(item) for item in items]
    return 1 + sum(values for values, _ in inner), int(not items) + sum(empty for _, empty in inner)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=300)
@hypothesis.given(value=VALUES)
def test_values_are_counted_whatever_is_in_strings(value: Any) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode()
    values, empty = counted(value)
    assert has_more_values(raw, values - 1)
    assert not has_more_values(raw, values + empty)


@pytest.mark.parametrize("raw", [b"", b'"', b'"\\', b'["' + b"," * 100, b"]]]}}}"])
def test_broken_text_is_counted_too(raw: bytes) -> None:
    assert not has_more_values(raw, 2)
