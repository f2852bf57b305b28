"""What is typed into a search: read without ever failing, and answered as a plain search in Python would."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chat_api.errors import InvalidInput
from chat_api.search.matching import Matcher
from chat_api.search.query import MOST_TERMS, Phrase, Query, parse
from chat_api.search.snippets import excerpt_of
from chat_api.search_index.tokenizer import words
from tests.support.api import Api

QUERIES = st.text() | st.text("ab éÀ1_-'\"“”*.()&|!:<>~%\\東京かกิ한 ") | st.text('ab "-*')
CONTENTS = (
    "a", "b", "a b", "b a", "ab", "ab a b", "A, b: aB!", "é a", "1 a1 1a", "a_b", "a-b a.b", "東京", "京東", "東京か a",
    "a東京b", "กิ", "กิก", "한글", "한", "aa ab aab", "b b b", "1", "a 東", "かか", "¡", "a 🙂 b",
)  # fmt: skip


def required(q: str) -> tuple[Phrase, ...]:
    return parse(q).required


@pytest.mark.parametrize(
    ("q", "phrases"),
    [
        ("one two", [Phrase(("one",)), Phrase(("two",))]),
        ("one ONE Öne", [Phrase(("one",))]),
        ('"one two" three', [Phrase(("one", "two")), Phrase(("three",))]),
        ("“one two„", [Phrase(("one", "two"))]),
        ('"one two', [Phrase(("one", "two"))]),
        ('one"two three"four', [Phrase(("one",)), Phrase(("two", "three")), Phrase(("four",))]),
        ("foo-bar foo_bar", [Phrase(("foo", "bar"))]),
        ("on*", [Phrase(("on",), is_prefix=True)]),
        ('"one tw"*', [Phrase(("one", "tw"), is_prefix=True)]),
        ("one * two", [Phrase(("one",)), Phrase(("two",))]),
        ("AND OR NOT", [Phrase(("and",)), Phrase(("or",)), Phrase(("not",))]),
        ("京", [Phrase(("京",), is_prefix=True, is_character=True)]),
        ("東京", [Phrase(("東京",))]),
        ("東京都*", [Phrase(("東京", "京都"))]),
        ('"京 one"', [Phrase(("京", "one"))]),
        ("one東京", [Phrase(("one", "東京"))]),
        ('"" one', [Phrase(("one",))]),
    ],
)
def test_what_is_asked_for(q: str, phrases: list[Phrase]) -> None:
    assert parse(q) == Query(tuple(phrases), ())


def test_exclusions_are_read() -> None:
    assert parse('one -two -"three four" -fi* --six') == Query(
        (Phrase(("one",)),),
        (Phrase(("two",)), Phrase(("three", "four")), Phrase(("fi",), is_prefix=True), Phrase(("six",))),
    )


@pytest.mark.parametrize("q", [" ", '"', "-", "*", '-""', "...", "-one", '-"one two" -three', "\ufe0f"])
def test_a_query_names_a_word(q: str) -> None:
    with pytest.raises(InvalidInput):
        parse(q)


def test_a_query_has_not_too_many_words() -> None:
    parse(" ".join(f"w{number}" for number in range(MOST_TERMS)))
    with pytest.raises(InvalidInput):
        parse("-" + "x." * (MOST_TERMS // 2) + " " + "y." * (MOST_TERMS // 2 + 1))


@given(QUERIES)
@example('" OR "*')
@example("' & !a:*")
def test_any_text_is_a_query_or_refused(q: str) -> None:
    try:
        query = parse(q)
    except InvalidInput:
        return
    for phrase in (*query.required, *query.excluded):
        assert phrase.terms
        assert set("".join(phrase.terms)).isdisjoint("'\"\\ ~*():&|!<>")


# -- against the databases ------------------------------------------------------------------------------------


def has(content: str, phrase: Phrase) -> bool:
    """Whether a text has the words of a phrase next to each other."""
    found, terms = words(content), phrase.terms
    for start in range(len(found) - len(terms) + 1):
        *first, last = found[start : start + len(terms)]
        ends = last.startswith(terms[-1]) if phrase.is_prefix else last == terms[-1]
        if tuple(first) == terms[:-1] and ends:
            return True
    return False


def matches(content: str, query: Query) -> bool:
    return all(has(content, phrase) for phrase in query.required) and not any(
        has(content, phrase) for phrase in query.excluded
    )


@pytest.fixture(scope="module")
def writer(make_user: Callable[..., Api]) -> Api:
    """Somebody who has said all of CONTENTS."""
    user = make_user()
    conversation = user.conversation()["id"]
    for content in CONTENTS:
        user.message(conversation, content)
    return user


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=QUERIES, sort=st.sampled_from(["newest", "relevance"]))
@example(q="a -b*", sort="newest")
@example(q='"b a" 1*', sort="newest")
def test_databases_find_what_a_plain_search_finds(writer: Api, q: str, sort: str) -> None:
    answer = writer.get("/chat/search", query_string={"q": q, "sort": sort, "limit": 100})
    try:
        query = parse(q)
    except InvalidInput:
        assert answer.status_code == 400
        return
    if answer.status_code == 400:
        assert any(odd in q for odd in "\x00\ufffd") or not q, answer.get_json()
        return
    assert answer.status_code == 200
    found = [item["message"]["content"] for item in answer.get_json()]
    expected = [content for content in CONTENTS if matches(content, query)]
    assert (sorted(found) if sort == "relevance" else found[::-1]) == (
        sorted(expected) if sort == "relevance" else expected
    )
    for item in answer.get_json():
        assert item["snippet"] == excerpt_of(item["message"]["content"], Matcher(query)).snippet
        assert item["snippet"]["matches"]


@given(content=st.text("ab éÀ1_-.東京かกิ한 \n", max_size=600), q=QUERIES)
def test_snippets_are_pieces_of_the_text(content: str, q: str) -> None:
    try:
        query = parse(q)
    except InvalidInput:
        return
    snippet = excerpt_of(content, Matcher(query)).snippet
    text = snippet["text"]
    assert len(text) <= 240
    assert text in content
    assert snippet["cut_before"] or content.startswith(text)
    assert snippet["cut_after"] or content.endswith(text)
    last = 0
    for start, end in snippet["matches"]:
        assert last <= start < end <= len(text)
        last = end
    assert bool(snippet["matches"]) == any(has(content, phrase) for phrase in query.required)
