"""Tool calls are neither merged nor split, however a server numbers, names and repeats them."""

import time
from typing import Any

import pytest

from tests.llm.reading import Read, answer, block, call, chunk, message, read, read_whole, text_block

END = chunk(finish="tool_calls")


def fragments(*calls: dict[str, Any]) -> list[Any]:
    """A chunk for each fragment, and the end."""
    return [*(chunk({"tool_calls": [fragment]}) for fragment in calls), END]


A, B = '{"x":1}', '{"x":2}'


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        pytest.param([call("f", A, index=0), call("g", B, index=0)], [("f", A), ("g", B)], id="one-index-no-ids"),
        pytest.param([call("f", A, index=0), call("f", B, index=0)], [("f", A), ("f", B)], id="one-index-one-name"),
        pytest.param([call("f", A, index=0), call("f", A, index=0)], [("f", A), ("f", A)], id="equal-without-ids"),
        pytest.param(
            [call("f", A, index=0, id=""), call("g", B, index=0, id="")], [("f", A), ("g", B)], id="empty-ids"
        ),
        pytest.param(
            [call("f", A, index=0, id="i"), call("f", B, index=0, id="k")], [("f", A), ("f", B)], id="ids"
        ),
        pytest.param([call("f", A, id="i"), call("f", B, id="k")], [("f", A), ("f", B)], id="ids-without-index"),
        pytest.param([call("f", A), call("f", B)], [("f", A), ("f", B)], id="neither-ids-nor-index"),
        pytest.param(
            [call("f", '{"x"', index=0, id="i"), call("f", ":1}", index=0, id="i")], [("f", A)], id="name-repeated"
        ),
        pytest.param(
            [call("f", '{"x"', index=0), call("f", ":1}", index=0), call("f", "", index=0)],
            [("f", A)],
            id="name-repeated-without-id",
        ),
        pytest.param([call("f", '{"x"'), call("f", ":1}")], [("f", A)], id="name-repeated-without-anything"),
        pytest.param(
            [call("f", "", index=0, id="W1"), call("", A, index=0, id="null")], [("f", A)], id="word-null-as-id"
        ),
        pytest.param([call(None, "", index=0, id="i"), call("f", A, index=0)], [("f", A)], id="id-then-name"),
        pytest.param(
            [call("f", "", index=0, id="i"), call(None, '{"x"', index=0, id="k"), call(None, ":1}", index=0, id="l")],
            [("f", A)],
            id="another-id-with-each-fragment",
        ),
        pytest.param(
            [call("f", '{"x"', id="i"), call(None, ":1}", id="i"), call("g", B, id="k")],
            [("f", A), ("g", B)],
            id="id-instead-of-index",
        ),
        pytest.param(
            [
                call("f", '{"x"', id="i"), call("g", '{"x"', id="k"),
                call(None, ":1}", id="i"), call(None, ":2}", id="k"),
            ],
            [("f", A), ("g", B)],
            id="ids-interleaved-without-index",
        ),
        pytest.param(
            [call("f", '{"x"', index="0"), call("g", B, index="1"), call(None, ":1}", index="0")],
            [("f", A), ("g", B)],
            id="index-as-text",
        ),
        pytest.param(
            [call("f", A, index=0, id="i"), call("f", A, index=0, id="i")], [("f", A)], id="whole-call-repeated"
        ),
        pytest.param(
            [call("f", A, index=0, id="i"), call("g", B, index=1, id="k"), call("f", A, index=0, id="i")],
            [("f", A), ("g", B)],
            id="earlier-call-repeated",
        ),
        pytest.param(
            [call("f", A, index=0, id="i"), call("f", B, index=0, id="i")],
            [("f", A), ("f", B)],
            id="another-call-under-the-same-id",
        ),
        pytest.param(
            [call("f", A, index=0, id="i"), call(None, B, index=0)], [("f", A), ("f", B)], id="another-object"
        ),
        pytest.param(
            [call("f", "{}", index=0, id="i"), call(None, '{"x"', index=0), call(None, ":1}", index=0)],
            [("f", A)],
            id="empty-object-stood-for-them",
        ),
        pytest.param([call("now", "", index=0, id="i")], [("now", "{}")], id="no-arguments"),
        pytest.param([call("now", index=0, id="i")], [("now", "{}")], id="arguments-missing"),
        pytest.param([call("now", "null", index=0, id="i")], [("now", "{}")], id="arguments-null-word"),
        pytest.param([call("now", " ", index=0, id="i")], [("now", "{}")], id="arguments-blank"),
        pytest.param(
            [call("now", "", index=0, id="i"), call("today", "", index=0, id="k")],
            [("now", "{}"), ("today", "{}")],
            id="two-without-arguments",
        ),
        pytest.param(
            [call("now", "", index=0), call("today", "", index=0)],
            [("now", "{}"), ("today", "{}")],
            id="two-without-arguments-and-ids",
        ),
        pytest.param([call("f", {"x": 1}, index=0)], [("f", A)], id="object"),
        pytest.param(
            [call("f", {"x": 1}, index=0), call("f", {"x": 2}, index=0)], [("f", A), ("f", B)], id="objects"
        ),
        pytest.param([{"index": 0, "name": "f", "arguments": A}], [("f", A)], id="flat"),
        pytest.param(
            [{"index": 0, "type": "custom", "custom": {"name": "f", "input": "SELECT 1"}}],
            [("f", "SELECT 1")],
            id="custom",
        ),
        pytest.param([call("f", A, index=0), call(None, None, index=1), {}], [("f", A)], id="empty-fragments"),
        pytest.param(
            [call("f", '{"a":{}', index=0), call(None, ',"b":{}}', index=0)],
            [("f", '{"a":{},"b":{}}')],
            id="nested",
        ),
        pytest.param(
            [call("f", '{"a":', index=0), call(None, A, index=0), call(None, "}", index=0)],
            [("f", '{"a":{"x":1}}')],
            id="object-within",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("apart", [False, True])
def test_fragments(calls: list[Any], expected: list[tuple[str, str]], apart: bool) -> None:
    result = read(fragments(*calls), apart=apart)
    assert (result.calls, result.finish) == (expected, "tool_calls")
    assert len(set(result.ids)) == len(expected)


def test_ids_are_kept() -> None:
    result = read(fragments(call("f", "", index=0, id="W1"), call(None, A, index=0, id="null")))
    assert result.ids == ["W1"]
    assert read(fragments(call("f", A, index=0, id=7))).ids == ["7"]


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [call("f", A, id="i"), call("g", B, id="k")]},
        {"tool_calls": [call("f", A), call("g", B)]},
        {"tool_calls": [call("f", {"x": 1}), call("g", {"x": 2})], "content": None},
    ],
)
def test_calls_of_a_whole_message(message: dict[str, Any]) -> None:
    expected = [("f", A), ("g", B)]
    assert read_whole(answer(message, "tool_calls")).calls == expected
    assert read([chunk(message, "tool_calls")]).calls == expected
    # the same once more beside or after the deltas
    deltas = [chunk({"tool_calls": [fragment]}) for fragment in message["tool_calls"]]
    again = chunk(None, "tool_calls", message=message)
    assert read([*deltas, again]).calls == expected
    assert read([chunk({"content": "Hi"}, message={"content": "Hi"}), again]).calls == expected


def test_equal_calls_of_a_whole_message_are_both_taken() -> None:
    calls = [call("roll", "{}"), call("roll", "{}")]
    assert read_whole(answer({"tool_calls": calls})).calls == [("roll", "{}")] * 2


@pytest.mark.parametrize("finish", ["function_call", "stop"])
def test_function_call_of_the_old_form(finish: str) -> None:
    whole = {"content": None, "function_call": {"name": "f", "arguments": A}}
    expected = Read(calls=[("f", A)], finish="tool_calls")
    parts = [{"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ":1}"}]
    streamed = [*(chunk({"function_call": part}) for part in parts), chunk(finish=finish)]
    for result in (read_whole(answer(whole, finish)), read(streamed), read(streamed, apart=True)):
        assert (result.calls, result.finish) == (expected.calls, expected.finish)


def test_repeated_names_cost_no_quadratic_time() -> None:
    """Whether arguments are complete is looked at for a bounded number of bytes."""
    start = call("f", '{"x":"' + "y" * 500_000, index=0)
    parts = [call("f", "{}", index=0)] * 5000
    begin = time.process_time()
    result = read(fragments(start, *parts))
    assert time.process_time() - begin < 5
    assert result.calls[0][1].startswith('{"x":"yyy')


def test_ids_that_no_result_could_name_are_replaced() -> None:
    """Some servers keep the signature of a thought in an id."""
    longest, longer = "i" * 255, "call_1__thought__" + "s" * 4000
    calls = [call("f", A, index=number, id=id) for number, id in enumerate((longest, longer, longer + "2"))]
    result = read(fragments(*calls))
    assert result.ids[0] == longest
    assert len({*result.ids}) == 3
    assert all(len(id) <= 255 for id in result.ids)
    assert result.ids == read(fragments(*calls)).ids
    assert read(fragments(call("n" * 300, A, index=0, id="i"))).calls == [("n" * 255, A)]


def tool_use(index: int, id: str, name: str, *parts: str, **fields: Any) -> list[dict[str, Any]]:
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    return block(index, "tool_use", *deltas, id=id, name=name, **{"input": {}, **fields})


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([tool_use(0, "t1", "now", "")], [("now", "{}")]),
        ([tool_use(0, "t1", "now")], [("now", "{}")]),
        ([tool_use(0, "t1", "f", '{"x"', ":1}"), tool_use(1, "t2", "f", B)], [("f", A), ("f", B)]),
        ([tool_use(0, "t1", "f", input={"x": 1})], [("f", A)]),
        ([tool_use(0, "t1", "f", A, input={"x": 1})], [("f", A)]),
        ([text_block(0, "Hi"), tool_use(1, "t1", "now")], [("now", "{}")]),
    ],
)
def test_calls_of_claude(blocks: list[Any], expected: list[tuple[str, str]]) -> None:
    result = read(message(*blocks, reason="tool_use"), "anthropic")
    assert (result.calls, result.finish) == (expected, "tool_calls")


def test_calls_of_claude_in_a_whole_message() -> None:
    content = [
        {"type": "tool_use", "id": "t1", "name": "now", "input": {}},
        {"type": "tool_use", "id": "t2", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "t3", "name": "g"},
    ]
    result = read_whole({"content": content, "stop_reason": "tool_use"}, "anthropic")
    assert result.calls == [("now", "{}"), ("f", A), ("g", "{}")]
    assert result.ids == ["t1", "t2", "t3"]
