"""What a reply refers to: sources under all names, where the text refers to them, and their limits."""

from typing import Any

import pytest

from chat_api.llm.events import Source
from chat_api.llm.sources import MAX_SOURCES, is_web_url, places_in, title_of
from tests.llm.reading import Read, answer, block, chunk, message, read, read_whole, text_block, texts

A, B = "https://a.example/one", "https://b.example/two?x=1#y"
TEXT = "Lisbon is sunny.[1] It rains in Porto.[2]"
SUNNY, RAINS = "Lisbon is sunny.", "It rains in Porto."


def referred(result: Read) -> dict[str, list[str]]:
    """The passages of the text that refer to each source."""
    return {
        url: [result.text[begin:end] for begin, end in places_in(result.text, source)]
        for url, source in result.sources.items()
    }


MARKED = {A: ["[1]"], B: ["[2]"]}
PASSAGES = {A: [SUNNY], B: [RAINS]}
GROUNDING = {
    "groundingChunks": [{"web": {"uri": A, "title": "One"}}, {"web": {"uri": B, "title": "Two"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 0, "endIndex": 16, "text": SUNNY}, "groundingChunkIndices": [0]},
        {"segment": {"text": RAINS}, "groundingChunkIndices": [1]},
    ],
}
SNAKE_GROUNDING = {
    "grounding_chunks": GROUNDING["groundingChunks"],
    "grounding_supports": [
        {"segment": {"text": SUNNY}, "grounding_chunk_indices": [0]},
        {"segment": {"text": RAINS}, "grounding_chunk_indices": [1]},
    ],
}
RESULTS = [{"title": "One", "url": A, "date": "2026-01-01"}, {"title": "Two", "url": B}]


def annotation(url: str, title: str, passage: str) -> dict[str, Any]:
    begin = TEXT.index(passage)
    cited = {"url": url, "title": title, "start_index": begin, "end_index": begin + len(passage)}
    return {"type": "url_citation", "url_citation": cited}


ANNOTATIONS = [annotation(A, "One", SUNNY), annotation(B, "Two", RAINS)]
TOP: list[Any] = [
    pytest.param({"search_results": RESULTS}, MARKED, id="perplexity-results"),
    pytest.param({"citations": [A, B], "search_results": RESULTS}, MARKED, id="perplexity-both"),
    pytest.param({"citations": RESULTS}, MARKED, id="citations-with-titles"),
    pytest.param({"search_info": {"search_results": [{"index": 1, **RESULTS[0]}, {"index": 2, **RESULTS[1]}]}}, MARKED,
                 id="dashscope"),
    pytest.param({"web_search": [{"title": "One", "link": A}, {"title": "Two", "link": B}]}, MARKED, id="zhipu"),
    pytest.param({"vertex_ai_grounding_metadata": [GROUNDING]}, PASSAGES, id="litellm"),
]  # fmt: skip
IN_MESSAGE: list[Any] = [
    pytest.param({"annotations": ANNOTATIONS}, PASSAGES, id="openai"),
    pytest.param({"annotations": [{"type": "url_citation", **item["url_citation"]} for item in ANNOTATIONS]}, PASSAGES,
                 id="flat-annotations"),
    pytest.param({"extra_content": {"google": {"grounding_metadata": SNAKE_GROUNDING}}}, PASSAGES, id="gemini"),
    pytest.param({"grounding_metadata": GROUNDING}, PASSAGES, id="grounding-of-a-gateway"),
    pytest.param({"executed_tools": [{"type": "search", "search_results": {"results": RESULTS}}]}, {A: [], B: []},
                 id="groq"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), TOP)
def test_sources_beside_the_choices(fields: dict[str, Any], expected: Any) -> None:
    streamed = [
        {**each, **fields} for each in texts(TEXT[:10], TEXT[10:])
    ]  # with each chunk, as Perplexity does
    only_last = [*texts(TEXT), {"choices": [], **fields}]
    for result in (
        read(streamed),
        read(streamed, apart=True),
        read(only_last),
        read_whole({**answer({"content": TEXT}), **fields}),
    ):
        assert result.text == TEXT
        assert referred(result) == expected
        assert [source.title for source in result.sources.values()] == ["One", "Two"]


@pytest.mark.parametrize(("fields", "expected"), IN_MESSAGE)
def test_sources_in_a_message(fields: dict[str, Any], expected: Any) -> None:
    streamed = [*texts(TEXT)[:1], chunk(fields), chunk(finish="stop")]
    in_choice = [*texts(TEXT)[:1], chunk({}, "stop", **fields)]
    for result in (
        read(streamed, apart=True),
        read(in_choice),
        read_whole(answer({"content": TEXT, **fields})),
    ):
        assert referred(result) == expected
        assert [source.title for source in result.sources.values()] == ["One", "Two"]


def test_numbers_without_titles() -> None:
    result = read_whole({**answer({"content": TEXT}), "citations": [A, B]})
    assert referred(result) == MARKED
    assert result.sources[A].title is None


def test_citations_of_azure() -> None:
    context = {
        "citations": [{"title": "One", "url": A}, {"title": "f.pdf", "url": None}, {"url": B}],
        "intent": "x",
    }
    result = read_whole(answer({"content": "Sunny [doc1][doc3].", "context": context}))
    assert referred(result) == {A: ["[doc1]"], B: ["[doc3]"]}


def test_places_count_from_the_text_without_reasoning() -> None:
    result = read_whole(answer({"content": f"<think>hm</think>\n\n{TEXT}", "annotations": [
        annotation(A, "One", SUNNY) | {"url_citation": {"url": A, "start_index": 19, "end_index": 19 + len(SUNNY)}}
    ]}))  # fmt: skip
    assert referred(result) == {A: [SUNNY]}


def test_place_that_is_no_place() -> None:
    for begin, end in ((0, 0), (5, 2), (-3, 2), (None, 3), (0, 10**9)):
        cited = {"url": A, "start_index": begin, "end_index": end}
        assert referred(read_whole(answer({"content": TEXT, "annotations": [{"url_citation": cited}]}))) == {
            A: []
        }


def citation(url: str, title: str) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title,
        "cited_text": "x",
        "encrypted_index": "y",
    }


def test_citations_of_claude() -> None:
    cited = block(
        1, "text",
        {"type": "citations_delta", "citation": citation(A, "One")},
        {"type": "text_delta", "text": "is "}, {"type": "text_delta", "text": "sunny"},
        {"type": "citations_delta", "citation": citation(B, "Two")},
        text="", citations=[],
    )  # fmt: skip
    events = message(text_block(0, "Lisbon "), cited, text_block(2, " today."))
    content = [
        {"type": "text", "text": "Lisbon "},
        {"type": "text", "text": "is sunny", "citations": [citation(A, "One"), citation(B, "Two")]},
        {"type": "text", "text": " today."},
    ]
    for result in (
        read(events, "anthropic"),
        read(events, "anthropic", apart=True),
        read_whole({"content": content, "stop_reason": "end_turn"}, "anthropic"),
    ):
        assert result.text == "Lisbon is sunny today."
        assert referred(result) == {A: ["is sunny"], B: ["is sunny"]}
        assert [source.title for source in result.sources.values()] == ["One", "Two"]


def test_sources_are_kept_where_the_stream_breaks_off() -> None:
    result = read([{**chunk({"content": TEXT}), "citations": [A]}], done=False)
    assert result.finish is None
    assert referred(result) == {A: ["[1]"]}


@pytest.mark.parametrize(
    "url", [A, B, "HTTP://x.example", "https://xn--bcher-kva.example/a", "https://bücher.example"]
)
def test_url_of_the_web(url: str) -> None:
    assert is_web_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "javascript:alert(1)", "data:text/html,x", "ftp://a.example", "file:///etc/passwd", "//a.example",
        "a.example",
        "https://", "https:///x", "https://a.example/ b", "https://a.example/\nx",
        "https://[::1", "https://a.example/" + "x" * 2048,
        "doc.pdf", "https://a.example/\u202e",
    ],
)  # fmt: skip
def test_other_url_is_no_source(url: str) -> None:
    assert not is_web_url(url)
    assert not read_whole(
        {**answer({"content": "x"}), "citations": [url, {"url": url.strip() or None}]}
    ).sources


def test_titles_are_one_line_and_not_long() -> None:
    assert title_of(" A\n  b\x00\u202ec ") == "A bc"
    assert len(title_of("x" * 10_000) or "") == 300
    assert [title_of(title) for title in ("", " ", None, 3, ["x"])] == [None] * 5


@pytest.mark.parametrize(
    "fields",
    [
        {"citations": "x", "search_results": {"a": 1}, "web_search": [None, 3, []], "search_info": []},
        {"citations": [{"url": 3}, {"url": [A]}], "annotations": {"url": A}, "grounding_metadata": "x"},
        {
            "grounding_metadata": {
                "groundingChunks": [1, {}, {"web": 3}],
                "groundingSupports": [3, {"segment": 1}],
            }
        },
        {
            "extra_content": {"google": []},
            "executed_tools": [3, {"search_results": 5}],
            "context": {"citations": 3},
        },
    ],
)
def test_what_is_no_source_is_left_out(fields: Any) -> None:
    result = read_whole({**answer({"content": "Hi", **fields}), **fields})
    assert (result.text, result.sources) == ("Hi", {})


def test_number_and_size_are_bounded() -> None:
    urls = [f"https://a.example/{number}" for number in range(1000)]
    result = read(
        [
            {**chunk({"content": "[1]" * 1000}), "citations": urls[:500]},
            chunk(finish="stop", citations=urls[500:]),
        ]
    )
    assert len(result.sources) == MAX_SOURCES
    places = {url: len(places) for url, places in referred(result).items()}
    assert max(places.values()) == 50
    assert sum(len(source.marks) for source in result.sources.values()) <= 400


def test_text_may_be_shorter_than_a_place() -> None:
    source = Source(A, places=((0, 3), (2, 9)), marks=("[1]", "b"))
    assert places_in("ab[1]", source) == [(0, 3), (1, 2), (2, 5)]
