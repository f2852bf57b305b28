"""Texts, usage and ends of replies, as servers of either protocol really send them."""

import json
from typing import Any

import pytest

from chat_api.llm import anthropic, reply_media
from chat_api.llm.events import Finish, TextDelta
from chat_api.llm.reply_media import NO_CONTENT
from chat_api.llm.sse import Frame, SseReader
from tests.llm.reading import PROTOCOLS, answer, block, chunk, message, read, read_whole, text_block, texts

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
LONG = "The answer to this question is longer than what is remembered of its beginning."


# -- text is never doubled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    "text", ["Hello", LONG, "<think>hm</think>\n\nHello", f"<think>hm</think>\n\n{LONG}"]
)
@pytest.mark.parametrize(
    "last",
    [
        lambda text: [chunk(None, "stop", message={"role": "assistant", "content": text})],
        lambda text: [chunk({}, "stop", message={"role": "assistant", "content": text})],
        lambda text: [chunk({"content": ""}, "stop", message={"content": [{"type": "text", "text": text}]})],
        lambda text: [chunk(None, None, message={"content": text}), chunk({}, "stop")],
        lambda text: [chunk({"role": "assistant", "content": text}, "stop")],
        lambda text: [chunk({"content": text}, "stop"), chunk(None, "stop", message={"content": text})],
        lambda text: [chunk({}, "stop", message={"content": text.strip() + " "})],
    ],
)
def test_last_chunk_may_repeat_everything(last: Any, text: str, apart: bool) -> None:
    parts = [text[:3], text[3:5], text[5:]] if len(text) > 5 else [text[:3], text[3:]]
    result = read([*(chunk({"content": part}) for part in parts), *last(text)], apart=apart)
    assert result.text.rstrip() == text.removeprefix("<think>hm</think>\n\n")
    assert (result.finish, result.error) == ("stop", None)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("text", ["Hello", LONG])
def test_message_beside_each_delta(text: str, apart: bool) -> None:
    chunks = [
        chunk({"content": character}, message={"content": text[: end + 1]})
        for end, character in enumerate(text)
    ]
    assert (
        read([*chunks, chunk({"content": ""}, "stop", message={"content": text})], apart=apart).text == text
    )


@pytest.mark.parametrize("text", ["Hello", LONG])
def test_messages_instead_of_deltas(text: str) -> None:
    growing = [chunk(None, message={"content": text[:end]}) for end in range(1, len(text) + 1)]
    assert read([*growing, chunk(None, "stop")]).text == text
    parts = [chunk(None, message={"content": part}) for part in ("Hel", "lo ", "you")]
    assert read([*parts, chunk(None, "stop")]).text == "Hello you"


@pytest.mark.parametrize("text", ["Hello, you", LONG])
@pytest.mark.parametrize("step", [1, 3, 9])
def test_deltas_that_have_all_of_the_text_so_far(text: str, step: int) -> None:
    growing = [text[:end] for end in range(step, len(text), step)] + [text]
    assert read(texts(*growing)).text == text
    assert read(texts(*growing), apart=True).text == text


@pytest.mark.parametrize(
    "parts",
    [
        ["ha", "haha", "ha"],
        ["1", "1", "1"],
        ["ha", "haha"],
        ["no", "no"],
        ["a", "ab", "b"],
        ["哈", "哈哈", "!"],
    ],
)
def test_texts_that_happen_to_repeat(parts: list[str]) -> None:
    assert read(texts(*parts)).text == "".join(parts)


def test_whole_reply_with_message_and_delta() -> None:
    choice = {
        "message": {"content": "Two.[1]"},
        "delta": {"role": "assistant", "content": ""},
        "finish_reason": "stop",
    }
    assert read_whole({"choices": [choice]}).text == "Two.[1]"
    choice["delta"] = {"role": "assistant", "content": "Two.[1]"}
    assert read_whole({"choices": [choice]}).text == "Two.[1]"


def test_repeated_reasoning_is_taken_once() -> None:
    whole = {"reasoning_content": "Let me see.", "content": "Hello"}
    deltas = [
        chunk({"reasoning_content": "Let me "}),
        chunk({"reasoning_content": "see."}),
        chunk({"content": "Hello"}),
    ]
    result = read([*deltas, chunk(None, "stop", message=whole)])
    assert (result.reasoning, result.text) == ("Let me see.", "Hello")
    growing = [chunk(None, message={"reasoning_content": "Let me see."[:end]}) for end in range(1, 12)]
    result = read([*growing, chunk(None, "stop", message=whole)])
    assert (result.reasoning, result.text) == ("Let me see.", "Hello")


# -- other texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delta", [{"role": "assistant"}, {"tool_calls": None}, {"refusal": None, "role": "x"}]
)
def test_fields_beside_the_text(delta: dict[str, Any]) -> None:
    parts = [LONG, " And", " so", " on."]
    assert read(
        [*(chunk({"content": part, **delta}) for part in parts), chunk(finish="stop")]
    ).text == "".join(parts)


def test_first_of_several_choices_only() -> None:
    whole = {"choices": [{"index": index, "message": {"content": text}} for index, text in enumerate("ab")]}
    assert read_whole(whole).text == "a"
    whole["choices"].reverse()
    assert read_whole(whole).text == "a"
    assert read_whole({"choices": [{"message": {"content": text}} for text in "ab"]}).text == "a"
    streamed = [{"choices": [{"index": index, "delta": {"content": LONG}}]} for index in (0, 1, 0, 1, 1, 0)]
    assert read(streamed).text == LONG * 3
    one_based = [{"choices": [{"index": 1, "delta": {"content": text}}]} for text in ("Hel", "lo")]
    assert read(one_based).text == "Hello"


def test_completions_of_the_old_form() -> None:
    assert read_whole({"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}).text == "Hello"
    parts = [{"choices": [{"index": 0, "text": text}]} for text in ("Hel", "lo")]
    assert read(parts).text == "Hello"


def test_refusals_are_text() -> None:
    parts = [chunk({"refusal": "I can't "}), chunk({"refusal": "do that."}), chunk(finish="stop")]
    assert read(parts).text == "I can't do that."
    assert read_whole(answer({"content": None, "refusal": "No."})).text == "No."
    assert read_whole(answer({"content": [{"type": "refusal", "refusal": "No."}]})).text == "No."
    assert read([chunk({"content": "Well."}), *parts]).text == "Well.\n\nI can't do that."


def test_transcript_is_text() -> None:
    assert (
        read_whole(answer({"content": None, "audio": {"data": "UklG", "transcript": "Hello"}})).text
        == "Hello"
    )
    parts = [chunk({"audio": {"id": "a", "transcript": text}}) for text in ("Hel", "lo")]
    assert read([*parts, chunk({"audio": {"data": "UklG"}}), chunk(finish="stop")]).text == "Hello"


CONTENT = b"\x89PNG\r\n\x1a\n"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SOUND = {"data": "UklGUklG"}


@pytest.mark.parametrize(
    ("message", "kinds"),
    [
        ({"content": "", "images": [IMAGE]}, ["image"]),
        ({"content": None, "images": [IMAGE, IMAGE]}, ["image", "image"]),
        ({"content": [IMAGE]}, ["image"]),
        ({"content": [{"type": "output_image", "image": "iVBORw0KGgo="}]}, ["image"]),
        ({"content": None, "audio": SOUND}, ["audio"]),
        ({"content": "<think>hm</think>", "images": [IMAGE]}, ["image"]),
        ({"images": [IMAGE], "audio": SOUND}, ["audio", "image"]),
    ],
)
def test_files_of_a_message(message: dict[str, Any], kinds: list[str]) -> None:
    for result in (
        read_whole(answer(message)),
        read([chunk(message), chunk(finish="stop")], apart=True),
        read([chunk(message), chunk(None, "stop", message=message)]),
    ):
        assert sorted(kind for kind, _ in result.files.values()) == kinds
        assert {content for kind, content in result.files.values() if kind == "image"} <= {CONTENT}
        assert {content for kind, content in result.files.values() if kind == "audio"} <= {b"RIFRIF"}
        assert result.whole == set(result.files)
        assert (result.text, result.finish, result.notices) == ("", "stop", [])


def test_picture_beside_a_text_changes_nothing_of_it() -> None:
    result = read([chunk({"content": "Here it is."}), chunk({"images": [IMAGE]}), chunk(finish="stop")])
    assert result.text == "Here it is."
    assert list(result.files.values()) == [("image", CONTENT)]


def test_pictures_keep_their_place_among_the_parts_of_a_content() -> None:
    texts = [{"type": "text", "text": text} for text in ("One", "two")]
    result = read_whole(answer({"content": [texts[0], IMAGE, texts[1]]}))
    assert result.text == "One\n\ntwo"
    repeated = [chunk({"content": "One"}), chunk({"content": "One"}, "stop")]
    assert read(repeated).text == "OneOne"


def test_recording_that_is_cut_off_is_not_whole() -> None:
    parts = [chunk({"audio": {"id": "a", "data": data}}) for data in ("UklG", "Uk", "lGQUI=", "QQ==")]
    cut_off = read(parts, done=False)
    assert list(cut_off.files.values()) == [("audio", b"RIFRIFABA")]
    assert cut_off.whole == set()
    assert cut_off.error
    assert read([*parts, chunk(finish="stop")]).whole == {1}


def test_addresses_become_links_at_the_end() -> None:
    remote = {"type": "image_url", "image_url": {"url": "https://e.example/a.png"}}
    result = read([chunk({"images": [remote]}), chunk({"content": "See"}), chunk(finish="stop")])
    assert (result.text, result.files) == ("See\n\n[image](https://e.example/a.png)", {})
    many = read_whole(answer({"content": "", "images": [remote] * 500}))
    assert many.text.count("https") == reply_media.MAX_LINKS


def test_no_more_files_are_taken_than_anybody_sends() -> None:
    result = read_whole(answer({"content": "", "images": [IMAGE] * 500}))
    assert len(result.files) == reply_media.MAX_ITEMS


def test_data_url_in_a_text_that_is_an_example_stays() -> None:
    text = "Write ![a](data:image/png;base64,iVBORw0KGgo=), or `![](data:image/png;base64,…)`. " + "x" * 100
    result = read_whole(answer({"content": text}))
    assert (result.text, result.files) == (text, {})


# -- usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        pytest.param([{**chunk(finish="stop"), "usage": USAGE}], id="last-chunk"),
        pytest.param([chunk(finish="stop"), {"choices": [], "usage": USAGE}], id="chunk-of-its-own"),
        pytest.param([{**chunk(finish="stop"), "x_groq": {"id": "r", "usage": USAGE}}], id="x_groq"),
        pytest.param([chunk(finish="stop", usage=USAGE)], id="choice"),
        pytest.param(
            [{**chunk(finish="stop"), "usage": {"input_tokens": 11, "output_tokens": 7}}],
            id="anthropic-names",
        ),
        pytest.param(
            [
                {
                    **chunk(finish="stop"),
                    "usage": {"input_tokens": 4, "cache_read_input_tokens": 7, "output_tokens": 7},
                }
            ],
            id="anthropic-names-with-cache",
        ),
        pytest.param(
            [{**chunk(finish="stop"), "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7}}],
            id="gemini-names",
        ),
        pytest.param(
            [
                {**chunk(finish="stop"), "usage": USAGE},
                {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            ],
            id="zeros-after-it",
        ),
        pytest.param(
            [{**chunk(finish="stop"), "usage": {"prompt_tokens": 11.0, "completion_tokens": 7.0}}],
            id="decimal",
        ),
        pytest.param(
            [{**chunk(finish="stop"), "usage": {"prompt_tokens": 11, "total_tokens": 18}}],
            id="only-the-total",
        ),
        pytest.param(
            [
                chunk(finish="stop", usage={"prompt_tokens": 11}),
                {"choices": [], "usage": {"completion_tokens": 7}},
            ],
            id="in-parts",
        ),
    ],
)
def test_usage_wherever_it_is_said(last: list[Any]) -> None:
    result = read([*(chunk({"content": text}) for text in ("Hel", "lo")), *last])
    assert (result.text, result.usage, result.finish) == ("Hello", (11, 7), "stop")


def test_usage_in_each_chunk_counts_as_it_was_last() -> None:
    chunks = [
        {**chunk({"content": "x"}), "usage": {"prompt_tokens": 11, "completion_tokens": n}}
        for n in range(1, 8)
    ]
    assert read(chunks).usage == (11, 7)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ({"input_tokens": 11, "output_tokens": 1}, {"output_tokens": 7}, (11, 7)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 11, "output_tokens": 7}, (11, 7)),
        ({"input_tokens": 11}, {"input_tokens": 0, "output_tokens": 7}, (11, 7)),
        ({"input_tokens": 4, "cache_read_input_tokens": 7}, {"input_tokens": 4, "output_tokens": 7}, (11, 7)),
        ({}, {"input_tokens": 4, "cache_creation_input_tokens": 7, "output_tokens": 7}, (11, 7)),
        ({"input_tokens": 0}, {"output_tokens": 7}, (0, 7)),
    ],
)
def test_usage_of_claude(start: Any, end: Any, expected: Any) -> None:
    events = message(text_block(0, "Hi"), usage=end)
    events[0]["message"]["usage"] = start
    assert read(events, "anthropic").usage == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 8}}, (8, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 5}}, (None, 5)),
        (
            {"input_tokens_details": {"cached_tokens": 8}, "output_tokens_details": {"reasoning_tokens": 5}},
            (8, 5),
        ),
        (
            {"prompt_tokens_details": None, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 3},
            (8, None),
        ),
        ({"cached_tokens": 8, "reasoning_tokens": 5}, (8, 5)),
        ({"cache_read_input_tokens": 8, "cache_creation_input_tokens": 0}, (8, None)),
        ({"cachedContentTokenCount": 8, "thoughtsTokenCount": 5}, (8, 5)),
        ({"prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": []}, (None, None)),
        ({"prompt_tokens_details": {"cached_tokens": -1}, "completion_tokens_details": 5}, (None, None)),
    ],
)
def test_details_of_the_usage(said: Any, expected: Any) -> None:
    counts = {"prompt_tokens": 11, "completion_tokens": 7}
    result = read([chunk({"content": "x"}), {**chunk({}, "stop"), "usage": {**counts, **said}}])
    assert (result.usage, result.details) == ((11, 7), expected)


def test_details_of_the_usage_may_come_in_parts() -> None:
    first = {"prompt_tokens": 11, "prompt_tokens_details": {"cached_tokens": 8}}
    last = {"completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}
    result = read([{**chunk({"content": "x"}), "usage": first}, {**chunk({}, "stop"), "usage": last}])
    assert (result.usage, result.details) == ((11, 7), (8, None))


def test_details_of_the_usage_of_claude() -> None:
    end = {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5}}
    events = message(text_block(0, "Hi"), usage=end)
    events[0]["message"]["usage"] = {"input_tokens": 4, "cache_read_input_tokens": 7}
    result = read(events, "anthropic")
    assert (result.usage, result.details) == ((11, 7), (7, 5))


# -- framing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_format", "events"),
    [("openai", texts("Hel", "lo")), ("anthropic", message(text_block(0, "Hel", "lo")))],
)
@pytest.mark.parametrize("join", ["\ndata: ", "\ndata: data: ", "\n\ndata: data: ", "\n\ndata:"])
def test_blank_lines_left_out_and_data_twice(api_format: str, events: list[Any], join: str) -> None:
    reader = SseReader(10_000)
    content = "data: " + join.join(json.dumps(event) for event in events) + "\n\n"
    frames = [*reader.feed(content.encode()), *reader.close()]
    reads = PROTOCOLS[api_format].parse_stream([frames], secrets="key", reply_bytes=1000)
    found = [event for part in reads for event in part]
    assert "".join(event.text for event in found if isinstance(event, TextDelta)) == "Hello"
    assert found[-1] == Finish("stop")


# -- ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "null", "None"])
def test_reason_before_the_end_is_none(reason: str) -> None:
    result = read([chunk({"content": "Hi"}, reason)], done=False)
    assert (result.text, result.finish) == ("Hi", None)
    assert "ended before" in str(result.error)
    assert read([chunk({"content": "Hi"}, reason), chunk(finish="stop")], done=False).finish == "stop"


def test_what_was_held_back_is_kept_where_a_stream_breaks_off() -> None:
    result = read([chunk({"content": "<thi"})], done=False)
    assert (result.text, result.finish) == ("<thi", None)
    result = read([chunk({"content": "ha"}), chunk({"content": "haha"}), {"error": {"message": "It broke"}}])
    assert result.text == "hahaha"
    assert "It broke" in str(result.error)


def test_error_in_a_choice() -> None:
    failed = chunk({"content": "!"}, "error", error={"code": 502, "message": "Upstream broke"})
    result = read([chunk({"content": "Hi"}), failed])
    assert result.text == "Hi!"
    assert "Upstream broke" in str(result.error)


# -- Claude -------------------------------------------------------------------------------------------------


SEARCH = [
    *block(1, "server_tool_use", id="s1", name="web_search", input={}),
    *block(2, "web_search_tool_result", tool_use_id="s1", content=[]),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("I'll look it up.", "Here it is.", "I'll look it up.\n\nHere it is."),
        ("I'll look it up.", "\n\nHere it is.", "I'll look it up.\n\nHere it is."),
        ("", "Here it is.", "Here it is."),
        (LONG, "Here it is.", f"{LONG}\n\nHere it is."),
    ],
)
def test_texts_around_a_server_tool_are_apart(before: str, after: str, expected: str) -> None:
    events = message(text_block(0, before), SEARCH, text_block(3, after[:2], after[2:]))
    assert read(events, "anthropic").text == expected
    assert read(events, "anthropic", apart=True).text == expected
    content = [
        {"type": "text", "text": before},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "text", "text": after},
    ]
    assert read_whole({"content": content, "stop_reason": "end_turn"}, "anthropic").text == expected


def test_neighbouring_blocks_of_text_are_one_text() -> None:
    events = message(text_block(0, "It is "), text_block(1, "four"), text_block(2, "."))
    assert read(events, "anthropic").text == "It is four."


def test_explanation_of_a_refusal() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Blocked under the usage policy."}
    result = read(message(reason="refusal", stop_details=details), "anthropic")
    assert (result.text, result.finish) == ("Blocked under the usage policy.", "content_filter")
    result = read(message(text_block(0, "Well,"), reason="refusal", stop_details=details), "anthropic")
    assert result.text == "Well,\n\nBlocked under the usage policy."
    whole = {"content": [], "stop_reason": "refusal", "stop_details": details}
    assert read_whole(whole, "anthropic").text == "Blocked under the usage policy."


def test_picture_of_claude() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    whole = {"content": [{"type": "image", "source": source}], "stop_reason": "end_turn"}
    assert list(read_whole(whole, "anthropic").files.values()) == [("image", CONTENT)]
    empty = {"content": [{"type": "image", "source": {}}], "stop_reason": "end_turn"}
    assert read_whole(empty, "anthropic").notices == [NO_CONTENT.format(name="An image")]


def test_types_of_events_may_be_in_their_names_only() -> None:
    frames = [
        Frame("content_block_delta", '{"index":0,"delta":{"type":"text_delta","text":"Hi"}}'),
        Frame("message_delta", '{"delta":{"stop_reason":"end_turn"}}'),
        Frame("", "[DONE]"),
    ]
    reads = anthropic.parse_stream([frames], secrets="key", reply_bytes=1000)
    assert [event for events in reads for event in events] == [TextDelta("Hi"), Finish("stop")]
