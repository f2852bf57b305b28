"""The log of a reply: whatever came, and wherever a reader stands in it, the rest is exact."""

import gc
import time

import orjson
from hypothesis import given
from hypothesis import strategies as st

from chat_api.completions.reply_log import (
    REASONING,
    SOURCE,
    START,
    TEXT,
    TOOL_CALL,
    WHOLE,
    Chunk,
    ReplyLog,
    from_json,
    joined,
    rebuilt,
    source_chunk,
    to_json,
    tool_call_chunk,
)
from chat_api.llm.events import Source, ToolCall

# what a log may hold: no NUL and no halves of surrogate pairs, which are replaced before
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
CALLS = st.builds(ToolCall, TEXTS, TEXTS, TEXTS).map(tool_call_chunk)
SOURCES = st.builds(Source, TEXTS, st.none() | TEXTS).map(source_chunk)
CHUNKS = st.lists(
    st.one_of(
        st.builds(Chunk, st.just(TEXT), TEXTS.filter(bool)),
        st.builds(Chunk, st.just(REASONING), TEXTS.filter(bool)),
        CALLS,
        SOURCES,
    ),
    max_size=20,
)


def flat(chunks: list[Chunk]) -> list[tuple[str, str]]:
    """The chunks in units of one position each: characters, calls and sources."""
    units = []
    for chunk in chunks:
        texts = [chunk.text] if chunk.kind in WHOLE else list(chunk.text)
        units += [(chunk.kind, text) for text in texts]
    return units


@given(CHUNKS)
def test_positions_count_characters_and_calls(chunks: list[Chunk]) -> None:
    log = ReplyLog(chunks)
    assert log.position == len(flat(chunks))
    assert flat(log.after(START)) == flat(chunks)


@given(CHUNKS, st.data())
def test_the_rest_after_any_position_is_exact(chunks: list[Chunk], data: st.DataObject) -> None:
    log, units = ReplyLog(chunks), flat(chunks)
    position = data.draw(st.integers(START, len(units) + 5))
    rest = log.after(position)
    assert flat(rest) == units[position:]
    assert rest == list(joined(rest))  # neighbours of one kind come as one


@given(CHUNKS, st.data())
def test_a_reader_who_stops_anywhere_gets_everything_once(chunks: list[Chunk], data: st.DataObject) -> None:
    log, units = ReplyLog(chunks), flat(chunks)
    stops = data.draw(st.lists(st.integers(START, len(units)), max_size=4).map(sorted))
    read, position = [], START
    for stop in [*stops, len(units)]:  # what it takes of the rest, before it comes back with its position
        read += flat(log.after(position))[: stop - position]
        position = stop
    assert read == units


@given(CHUNKS, st.data())
def test_rebuilt_from_what_is_stored_it_is_the_same(chunks: list[Chunk], data: st.DataObject) -> None:
    log, units = ReplyLog(chunks), flat(chunks)
    again = rebuilt(
        log.outline(),
        text=log.text_of(TEXT),
        reasoning=log.text_of(REASONING),
        tool_calls=orjson.loads(log.tool_calls() or "[]"),
        sources=orjson.loads(log.sources() or "[]"),
    )
    position = data.draw(st.integers(START, len(units) + 5))
    assert flat(again.after(position)) == units[position:]
    assert again.position == log.position


@given(CHUNKS)
def test_pieces_as_json_are_the_same(chunks: list[Chunk]) -> None:
    assert from_json(to_json(chunks)) == chunks


@given(CHUNKS, st.data())
def test_pieces_saved_in_turn_make_up_the_log(chunks: list[Chunk], data: st.DataObject) -> None:
    """As the supervisor saves them, from where the last checkpoint ended, and another worker reads them."""
    log, elsewhere, saved = ReplyLog(), ReplyLog(), START
    for chunk in chunks:
        log.append(chunk)
        if data.draw(st.booleans()) and (chunks := log.after(saved)):
            saved += sum(chunk.length for chunk in chunks)
            for read in from_json(to_json(chunks)):
                elsewhere.append(read)
        assert flat(elsewhere.after(START)) == flat(log.after(START))[: elsewhere.position]
    assert elsewhere.position == saved


def test_an_empty_log_has_nothing() -> None:
    log = ReplyLog()
    assert (log.position, log.after(START), log.after(7)) == (START, [], [])
    assert (log.text_of(TEXT), log.tool_calls()) == ("", None)
    assert rebuilt(log.outline(), text="", reasoning="", tool_calls=[], sources=[]).position == START


def test_texts_and_calls_are_told_apart() -> None:
    call = ToolCall("call_1", "look", '{"at": "Ü"}')
    log = ReplyLog(
        [
            Chunk(REASONING, "Hm"),
            Chunk(TEXT, "a"),
            tool_call_chunk(call),
            tool_call_chunk(call),
            Chunk(TEXT, "b"),
        ]
    )
    assert (log.text_of(TEXT), log.text_of(REASONING)) == ("ab", "Hm")
    as_json = {"id": "call_1", "name": "look", "arguments": '{"at": "Ü"}'}
    assert orjson.loads(log.tool_calls() or "") == [as_json, as_json]
    assert [chunk.kind for chunk in log.after(START)] == [REASONING, TEXT, TOOL_CALL, TOOL_CALL, TEXT]


def test_text_may_turn_out_to_be_reasoning() -> None:
    log = ReplyLog([Chunk(TEXT, "Hm"), tool_call_chunk(ToolCall("c", "f", "{}")), Chunk(TEXT, "m")])
    position = log.position
    log.make_reasoning()
    log.append(Chunk(TEXT, "Hi"))
    assert (log.text_of(TEXT), log.text_of(REASONING)) == ("Hi", "Hmm")
    assert log.after(position) == [Chunk(TEXT, "Hi")]
    again = rebuilt(log.outline(), text="Hi", reasoning="Hmm", tool_calls=[{"id": "c"}], sources=[])
    assert (again.position, again.after(position)) == (log.position, log.after(position))


def test_a_source_has_its_places_in_the_end_only() -> None:
    source = {"url": "https://a.example", "title": None, "places": [[0, 2]]}
    log = rebuilt('[["text",2],["source",1]]', text="Hi", reasoning="", tool_calls=[], sources=[source])
    assert [(chunk.kind, chunk.text) for chunk in log.after(2)] == [
        (SOURCE, '{"url":"https://a.example","title":null,"places":[]}')
    ]


def test_rebuilding_takes_time_in_proportion_to_the_parts() -> None:
    """Each part was once cut off what remained, which copied a megabyte for each of them."""

    def cpu_s(parts: int) -> float:
        outline = orjson.dumps([(TEXT, 5), (REASONING, 5)] * (parts // 2)).decode()
        gc.disable()  # the garbage of all other tests is looked for in proportion to that
        begin = time.process_time()
        log = rebuilt(
            outline, text="\N{EURO SIGN}" * 5 * parts, reasoning="r" * 5 * parts, tool_calls=[], sources=[]
        )
        took_s = time.process_time() - begin
        gc.enable()
        assert log.position == 5 * parts
        return took_s

    few, many = min(cpu_s(4_000) for _ in range(3)), min(cpu_s(100_000) for _ in range(3))
    assert many < 25 * few * 4 + 0.1


def test_parts_of_nothing_make_no_events() -> None:
    log = rebuilt(
        '[["text",0],["text",2],["text",7],["text",7]]', text="abc", reasoning="", tool_calls=[], sources=[]
    )
    assert log.after(START) == [Chunk(TEXT, "abc")]
    assert log.position == 3
