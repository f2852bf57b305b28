"""Reasoning ends apart from the text, whatever field, part or tag it comes in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.llm.events import Event, ReasoningDelta
from chat_api.llm.openai.reply import OpenAIStreamParser
from chat_api.llm.sse import Frame
from tests.llm.reading import answer, block, chunk, message, read, read_whole, text_block, texts

TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<THINK>", "</THINK>"),
    ("<Thought>", "</Thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reason>", "</reason>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<antThinking>", "</antThinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("begin", "end"), TAGS, ids=[begin + end for begin, end in TAGS])
@pytest.mark.parametrize("before", ["", "\n", " \n\n"])
def test_tags_at_the_beginning(begin: str, end: str, before: str) -> None:
    text = f"{before}{begin}\nLet me\n\nsee.\n{end}\n\nHello <b>you</b>\n"
    for result in (
        read_whole(answer({"content": text})),
        read(texts(text)),
        read(texts(*text)),
        read(texts(*text), apart=True),
        read(message(text_block(0, *text)), "anthropic", apart=True),
    ):
        assert (result.reasoning, result.text) == ("Let me\n\nsee.", "Hello <b>you</b>\n")


TEXT_PIECES = st.sampled_from(
    ["<think>", "</think>", "<thi", "nk>", "<", "/", ">", "\n", " ", "a", "Hello", "`", "<b>", "[THINK]"]
)


@given(pieces=st.lists(TEXT_PIECES, max_size=12), data=st.data())
def test_how_text_is_cut_makes_no_difference(pieces: list[str], data: Any) -> None:
    whole = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    # content that repeats itself as servers do that send all of it again is not the matter here
    at_once = read([chunk({"reasoning_content": "r"}), *texts(whole)])
    in_parts = read([chunk({"reasoning_content": "r"}), *texts(" ", *parts)], apart=True)
    assert in_parts.reasoning.split() == at_once.reasoning.split()
    assert in_parts.text.split() == at_once.text.split()


@pytest.mark.parametrize(
    ("text", "reasoning", "rest"),
    [
        pytest.param("<think>\n\n</think>\n\nHello", "", "Hello", id="empty"),
        pytest.param("<think></think>", "", "", id="nothing-at-all"),
        pytest.param("<think>so\n", "so", "", id="no-end"),
        pytest.param("<think>so</thi", "so</thi", "", id="half-an-end"),
        pytest.param("<think>a</think> <think>b</think>Hi", "ab", "Hi", id="two"),
        pytest.param("<think>a <b> c</think>Hi", "a <b> c", "Hi", id="markup-in-reasoning"),
        pytest.param("</think>\n\nHello", "", "Hello", id="only-the-end-at-the-beginning"),
        pytest.param("Let me see.\n</think>\n\nHello", "Let me see.", "Hello", id="only-the-end"),
        pytest.param("Let me see.</think>Hello", "Let me see.", "Hello", id="only-the-end-inline"),
        pytest.param("Let me see.\n</think>", "Let me see.", "", id="only-the-end-and-nothing-more"),
        pytest.param("a</think>b\n</think>\nc", "a", "b\n</think>\nc", id="only-the-first-end-counts"),
        pytest.param("<thin", "", "<thin", id="half-a-tag"),
        pytest.param("<thin air>", "", "<thin air>", id="another-tag"),
        pytest.param("<div>x</div>", "", "<div>x</div>", id="markup"),
        pytest.param("\n\n", "", "\n\n", id="white-space"),
        pytest.param("Use <think>a</think> here", "", "Use <think>a</think> here", id="tags-in-the-text"),
        pytest.param("The `</think>` tag", "", "The `</think>` tag", id="quoted-tag"),
        pytest.param('if "</think>" in x', "", 'if "</think>" in x', id="tag-in-code"),
        pytest.param("The </think> tag", "", "The </think> tag", id="tag-in-a-sentence"),
    ],
)
def test_tags(text: str, reasoning: str, rest: str) -> None:
    for result in (read_whole(answer({"content": text})), read(texts(text))):
        assert (result.reasoning, result.text) == (reasoning, rest)
    for result in (read(texts(*text)), read(texts(*text), apart=True)):  # what was passed on stays as it is
        assert (result.reasoning.strip(), result.text) == (reasoning, rest)


def test_end_without_a_beginning_comes_late() -> None:
    result = read(texts("Let me see. ", "Two and two ", "is four.", "\n</think>\n\n", "Four."), apart=True)
    assert (result.reasoning.rstrip(), result.text) == ("Let me see. Two and two is four.", "Four.")


def test_text_with_a_tag_is_text_where_reasoning_comes_apart() -> None:
    result = read([chunk({"reasoning_content": "hm"}), *texts("The end.\n</think>\nis a tag")])
    assert (result.reasoning, result.text) == ("hm", "The end.\n</think>\nis a tag")


def test_very_much_white_space_is_not_held_back() -> None:
    result = read(texts(*[" "] * 5000, "Hi"), apart=True)
    assert result.text == " " * 5000 + "Hi"
    assert read(texts("<think>a", *["\n"] * 5000, "b</think>Hi"), apart=True).text == "Hi"


DETAILS = [
    {"type": "reasoning.text", "text": "Let me ", "signature": "s"},
    {"type": "reasoning.encrypted", "data": "eA=="},
    {"type": "reasoning.summary", "summary": "see."},
]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"reasoning_content": "Let me see."}, id="reasoning_content"),
        pytest.param({"reasoning": "Let me see."}, id="reasoning"),
        pytest.param({"reasoning": {"content": "Let me see."}}, id="reasoning-object"),
        pytest.param({"reasoning_text": "Let me see."}, id="reasoning_text"),
        pytest.param({"thinking": "Let me see."}, id="thinking"),
        pytest.param({"reasoning_details": DETAILS}, id="reasoning_details"),
        pytest.param({"reasoning": "Let me see.", "reasoning_details": DETAILS}, id="both"),
        pytest.param({"reasoning": "Let me see.", "reasoning_content": "Let me see."}, id="two-names"),
        pytest.param({"reasoning": None, "reasoning_details": DETAILS}, id="details-beside-null"),
        pytest.param(
            {"thinking_blocks": [{"type": "thinking", "thinking": "Let me see.", "signature": "s"}]},
            id="thinking_blocks",
        ),
        pytest.param(
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}]},
            id="mistral-parts",
        ),
        pytest.param({"content": [{"type": "reasoning", "text": "Let me see."}]}, id="reasoning-part"),
        pytest.param(
            {"content": "Let me see.", "extra_content": {"google": {"thought": True}}}, id="gemini-thought"
        ),
        pytest.param(
            {
                "content": "<thought>Let me see.</thought>",
                "extra_content": {"google": {"thought": True}},
            },
            id="gemini-thought-in-tags",
        ),
    ],
)
def test_fields_and_parts(fields: dict[str, Any]) -> None:
    result = read([chunk(fields), *texts("Hel", "lo")])
    assert (result.reasoning, result.text) == ("Let me see.", "Hello")
    if "content" not in fields:
        beside = read_whole(answer({"content": "Hello", **fields}))
        assert (beside.reasoning, beside.text) == ("Let me see.", "Hello")
        together = read([chunk({"content": "Hello", **fields}), chunk(finish="stop")])
        assert (together.reasoning, together.text) == ("Let me see.", "Hello")


def test_reasoning_details_in_parts() -> None:
    details = [{"type": "reasoning.text", "text": text, "index": 0} for text in ("Let me ", "see.")]
    chunks = [chunk({"content": "", "reasoning_details": [detail]}) for detail in details]
    result = read([*chunks, *texts("Hello")])
    assert (result.reasoning, result.text) == ("Let me see.", "Hello")


def test_thinking_of_claude() -> None:
    thinking = block(
        0, "thinking", {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."}, {"type": "signature_delta", "signature": "s"},
    )  # fmt: skip
    result = read(message(thinking, text_block(1, "Hello")), "anthropic")
    assert (result.reasoning, result.text) == ("Let me see.", "Hello")
    content = [
        {"type": "thinking", "thinking": "Let me see.", "signature": "s"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Hello"},
    ]
    whole = read_whole({"content": content, "stop_reason": "end_turn"}, "anthropic")
    assert (whole.reasoning, whole.text) == ("Let me see.", "Hello")


def test_reasoning_that_is_empty_is_no_event() -> None:
    chunks = [{"reasoning_content": "Hm"}, {"reasoning_content": ""}, {"reasoning_content": " so"}]
    frames = [
        Frame("", json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        for delta in chunks
    ]
    parser = OpenAIStreamParser((), 1024)
    found: list[Event] = []
    for frame in frames:
        parser.take(frame, found)
    assert found == [ReasoningDelta("Hm"), ReasoningDelta(" so")]
