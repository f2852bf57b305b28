"""GET /chat/search: what is found, in which order, on which page, and by whom."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id
from chat_api.search_index import lexemes
from chat_api.web.pagination import MAX_PAGE_BYTES
from tests.support.api import Api

PATH = "/chat/search"


def search(user: Api, q: str, **parameters: Any) -> TestResponse:
    return user.get(PATH, query_string={"q": q, **parameters})


def found(user: Api, q: str, **parameters: Any) -> list[str]:
    """The contents of the messages that a search finds."""
    response = search(user, q, **parameters)
    assert response.status_code == 200, response.get_data(as_text=True)
    return [item["message"]["content"] for item in response.get_json()]


def say(user: Api, *contents: str) -> str:
    conversation = user.conversation()["id"]
    for content in contents:
        user.message(conversation, content)
    return conversation


def marked(item: dict[str, Any]) -> list[str]:
    text = item["snippet"]["text"]
    return [text[start:end] for start, end in item["snippet"]["matches"]]


def next_link(response: TestResponse) -> str | None:
    link = re.fullmatch(r'<([^>]*)>; rel="next"', response.headers.get("Link", ""))
    return link[1] if link else None


# -- words --------------------------------------------------------------------------------------------------


@pytest.mark.happy_path("search_messages")
@pytest.mark.parametrize(
    ("content", "hits", "misses"),
    [
        ("Meet me at the Café Crème.", ["cafe", "CAFÉ", "creme cafe", '"café crème"', "cr*"],
         ["caf", '"creme cafe"', "cafe -creme", '"me the"']),
        ("foo-bar and foo_bar", ["foo-bar", "foo_bar", "bar foo", '"bar and"', "foo*"], ["foobar", '"bar foo"']),
        ("Straße, ŁÓDŹ, İstanbul, ﬁne, ｆｕｌｌ", ["strasse", "lodz", "istanbul", "fine", "full"], ["strabe"]),
        ("東京都に行く", ["東京", "京都", "京", "都", "く", "東京都に", "行", '"東京都に行く"', "京*"],
         ["東都", "北京", "-京 東"]),
        ("ฉันกินข้าวแล้ว", ["กินข้าว", "ข้าว", "ก", "แล้ว"], ["กินแล้ว"]),
        ("학교에서 만나자", ["학교", "학교에서", "만나", "교"], ["에만"]),
        ("ｶﾞｷﾞｸﾞ", ["ガギ", "ギグ", "ガ"], ["カキ"]),
        ("हिन्दी में लिखो", ["हिन्दी", "में", "हि*"], ["हन्द"]),
        ("it's 3.14 or 42%", ["it's", "3.14", "42", '"s 3"'], ["its", "31"]),
        ("AND OR NOT NEAR null", ["AND", "or", "NOT near", '"or not"', "null"], ["XOR"]),
        ("word" + "x" * 60, ["word" + "x" * 60, "wordx*"], ["word"]),
    ],
)  # fmt: skip
def test_words_are_found(ada: Api, content: str, hits: list[str], misses: list[str]) -> None:
    say(ada, "Something else entirely, 123", content)
    for q in hits:
        assert found(ada, q) == [content], q
    for q in misses:
        if not q.startswith("-") or " " in q:
            assert found(ada, q) == [], q


def test_exclusions_leave_out(ada: Api) -> None:
    say(ada, "red apple pie", "green apple", "red pie", "apple tart, red")
    assert found(ada, "apple -red") == ["green apple"]
    assert found(ada, "red -apple") == ["red pie"]
    assert found(ada, 'apple -"red apple"') == ["apple tart, red", "green apple"]
    assert found(ada, "apple -pi*") == ["apple tart, red", "green apple"]
    assert found(ada, "apple -red -green") == []


@pytest.mark.parametrize(
    ("q", "complaint"),
    [
        ("", "Length must be"), ("?! … \"\" --", "No word to search for."), ("-only -exclusions", "only exclusions"),
        ("x" * 501, "Length must be"), (" ".join(f"w{n}" for n in range(65)), "More than 64 words."),
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_refused(ada: Api, q: str, complaint: str) -> None:
    refused = search(ada, q)
    assert refused.status_code == 400
    assert complaint in refused.get_json()["errors"]["q"][0]


def test_parameters_are_checked(ada: Api) -> None:
    for parameters in (
        {"limit": 0}, {"limit": 101}, {"limit": "+5"}, {"sort": "oldest"}, {"after": "x"}, {"conversation_id": "x"},
        {"other": 1},
    ):  # fmt: skip
        refused = search(ada, "word", **parameters)
        assert (refused.status_code, set(refused.get_json()["errors"]) & set(parameters)) == (
            400, {list(parameters)[-1]},
        )  # fmt: skip


# -- what is shown ------------------------------------------------------------------------------------------


def test_message_and_conversation_are_shown_as_elsewhere(ada: Api) -> None:
    conversation = ada.conversation("Lunch")
    message = ada.message(conversation["id"], "Soup of the day")
    [item] = search(ada, "soup").get_json()
    assert item["message"] == message
    assert item["conversation"] == ada.get(f"/chat/conversations/{conversation['id']}").get_json()
    assert item["snippet"] == {
        "text": "Soup of the day", "matches": [[0, 4]], "cut_before": False, "cut_after": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "q", "marks"),
    [
        ("One two three two one", "two", ["two", "two"]),
        ("One two three two one", '"two one"', ["two one"]),
        ("Un Café, café!", "cafe", ["Café", "café"]),
        ("a 🙂 smile", "smile", ["smile"]),
        ("👩‍👩‍👧 at the cafe\u0301 👍🏽 Cafe", "cafe", ["cafe\u0301", "Cafe"]),
        ("ﬁne ½ ＦＩＮＥ", "fine", ["ﬁne", "ＦＩＮＥ"]),
        ("東京都に", "京都", ["京都"]),
        ("東京都に京", "京", ["京", "京"]),
        ("foo-bar foo bar", "foo-bar", ["foo-bar", "foo bar"]),
        ("planes and planets", "plan* -x", ["planes", "planets"]),
    ],
)
def test_snippet_marks_the_matches(ada: Api, content: str, q: str, marks: list[str]) -> None:
    say(ada, content)
    [item] = search(ada, q).get_json()
    assert marked(item) == marks


def test_snippet_of_a_long_message_is_around_most_matches(ada: Api) -> None:
    content = "needle " + "hay " * 500 + "a needle, a needle and more " + "hay " * 500
    say(ada, content)
    [item] = search(ada, "needle").get_json()
    snippet = item["snippet"]
    assert marked(item) == ["needle", "needle"]
    assert (snippet["cut_before"], snippet["cut_after"]) == (True, True)
    assert 150 <= len(snippet["text"]) <= 240
    assert snippet["text"] in content


# -- order and pages ----------------------------------------------------------------------------------------


def test_newest_come_first_and_pages_lead_on(ada: Api) -> None:
    contents = [f"apple {number}" for number in range(7)]
    say(ada, *contents)
    response = search(ada, "apple", limit=3)
    seen = [item["message"]["content"] for item in response.get_json()]
    while link := next_link(response):
        ada.message(ada.conversation()["id"], "A later apple")  # a cursor stays right while others write
        response = ada.get(link)
        seen += [item["message"]["content"] for item in response.get_json()]
    assert seen == contents[::-1]


def test_next_link_keeps_the_search(ada: Api) -> None:
    conversation = say(ada, *["a & b"] * 3)
    response = search(ada, '"a b" -c*', limit=1, conversation_id=conversation)
    for _ in range(2):
        link = next_link(response)
        assert link is not None
        response = ada.get(link)
        assert len(response.get_json()) == 1
    assert next_link(response) is None


def test_search_in_one_conversation(ada: Api, bob: Api) -> None:
    here, there = say(ada, "apple here"), say(ada, "apple there")
    assert found(ada, "apple", conversation_id=here) == ["apple here"]
    assert found(ada, "app*", conversation_id=there) == ["apple there"]
    assert found(ada, "apple", conversation_id=there, sort="relevance") == ["apple there"]
    for unknown in (new_id(), say(bob, "apple")):
        assert search(ada, "apple", conversation_id=unknown).status_code == 404


def test_relevance_puts_the_most_concerned_first(ada: Api) -> None:
    contents = [
        "apple " + "filler " * 50,
        "apple apple pie",
        "one apple pie",
        "apple pie pie",
        "apple pie one",
    ]
    say(ada, *contents)
    ranked = found(ada, "apple pie", sort="relevance")
    assert set(ranked[:2]) == {"apple apple pie", "apple pie pie"}
    assert ranked[2:] == ["apple pie one", "one apple pie"]  # of equal ones the newest
    assert found(ada, "apple", sort="relevance")[-1] == contents[0]
    assert next_link(search(ada, "apple", sort="relevance", limit=1)) is None
    third = search(ada, "apple").get_json()[2]["message"]["id"]
    assert found(ada, "apple", sort="relevance", after=third) == ["apple apple pie", contents[0]]


@pytest.mark.slow
def test_large_messages_are_spread_over_pages(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    for number in range(6):
        ada.message(conversation, f"big {number} " + "x" * (1024 * 1024 - 100))
    response, seen, pages = search(ada, "big"), [], 0
    while True:
        pages += 1
        assert len(response.data) < MAX_PAGE_BYTES + 2 * 1024 * 1024
        seen += [item["message"]["content"][4] for item in response.get_json()]
        if (link := next_link(response)) is None:
            break
        response = ada.get(link)
    assert (seen, pages) == (list("543210"), 2)


# -- whose --------------------------------------------------------------------------------------------------


def test_nobody_finds_what_others_wrote(ada: Api, bob: Api) -> None:
    say(ada, "apple of ada")
    code = ada.user_id[-6:]
    say(bob, "apple of bob", f"{code}apple {code} ~{code}")
    assert found(ada, "apple") == ["apple of ada"]
    assert found(bob, "ada") == []
    assert found(bob, f"{code}apple") == [f"{code}apple {code} ~{code}"]
    assert found(ada, f"{code}*") == []


def test_trusted_account_searches_for_a_user(ada: Api, trusted: Api) -> None:
    say(ada, "apple")
    answer = trusted.get(PATH, query_string={"q": "apple"}, headers={"X-Act-As": ada.user_id})
    assert answer.get_json() == search(ada, "apple").get_json()
    assert found(trusted, "apple") == []


def test_emoji_are_found(ada: Api) -> None:
    own = ada.conversation()
    said = ada.message(own["id"], "done ✅ and pizza🍕 👍🏽")
    ada.message(own["id"], "nothing of that")
    for query in ("🍕", "✅", "👍", "done 🍕", '"pizza 🍕"', "👍🏿"):
        [found] = ada.get("/chat/search", query_string={"q": query}).get_json()
        assert found["message"]["id"] == said["id"], query
    [[begin, end]] = ada.get("/chat/search", query_string={"q": "🍕"}).get_json()[0]["snippet"]["matches"]
    assert said["content"][begin:end] == "🍕"
    assert ada.get("/chat/search", query_string={"q": "done -🍕"}).get_json() == []


@pytest.mark.parametrize("filler", ["w{} ", "слово{} ", "word "])
def test_end_of_a_long_message_is_found(ada: Api, filler: str) -> None:
    own = ada.conversation()
    text = "".join(filler.format(number) for number in range(16_500)) + "needleword in hay 東京都 🍕"
    said = ada.message(own["id"], text)
    ada.message(own["id"], "another needle")
    last = filler.format(16_499).strip()
    for query in (
        "needleword",
        "needlew*",
        "京都",
        "東京都",
        "🍕",
        f"needleword {filler.format(1)}",
        '"needleword in hay"',
        f'"{last} needleword in ha"*',
        f'"needleword in" "{filler.format(3)}{filler.format(4)}" -"hay in"',
    ):
        [found] = search(ada, query).get_json()
        assert found["message"]["id"] == said["id"]
        assert found["snippet"]["matches"], query
        [found] = search(ada, query, sort="relevance", conversation_id=own["id"]).get_json()
        assert found["message"]["id"] == said["id"]
    for query in (f"{filler.format(1)} -needleword", '"hay needleword"', 'needleword -"in hay"'):
        assert search(ada, query).get_json() == [], query
    assert search(ada, "needleword", conversation_id=ada.conversation()["id"]).get_json() == []


def test_greatest_message_is_found_by_all_its_words(ada: Api) -> None:
    """Each word of it is another one, and few share a row of the index."""
    text = " ".join(f"{number:05x}" for number in range(174_000))
    assert 1_000_000 < len(text) < 1024 * 1024
    said = ada.message(ada.conversation()["id"], text)
    for query in ('"00000 00001"', "15f90 2a7ae", '"2a7ad 2a7ae 2a7af"', '2a7* -"2a7ae 2a7ad"'):
        assert [item["message"]["id"] for item in search(ada, query).get_json()] == [said["id"]]
    assert search(ada, '"2a7ae 2a7ad"').get_json() == []


def test_phrase_of_a_word_that_is_repeated_often_is_found(ada: Api) -> None:
    """A tsvector has 256 positions of a word at the most."""
    said = ada.message(ada.conversation()["id"], "the cat " * 700 + "the zebra")
    [found] = search(ada, '"the zebra"').get_json()
    assert found["message"]["id"] == said["id"]
    assert found["snippet"]["matches"]


WORDS = ["a", "b", "c", "d", "e"]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_long_and_short_messages_are_found_alike(ada: Api, example: st.DataObject) -> None:
    """Whatever part of a message has which word, it is found as if it had one; each once, in order, on all pages."""
    user = ada
    texts = example.draw(
        st.lists(
            st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([1, 70])), min_size=1, max_size=5),
            min_size=1,
            max_size=4,
        )
    )
    conversation = user.conversation()["id"]
    contents = [" ".join(f"{word} " * times for word, times in text).split() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexemes, "_MOST_TIMES", 66)
        patch.setattr(lexemes, "_MOST_WORDS", 100)
        ids = [user.message(conversation, " ".join(content))["id"] for content in contents]
    required = example.draw(
        st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=2)
    )
    excluded = example.draw(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2), max_size=1))

    def has(content: list[str], phrase: list[str]) -> bool:
        return f" {' '.join(phrase)} " in f" {' '.join(content)} "

    expected = [
        id_
        for id_, content in zip(ids, contents, strict=True)
        if all(has(content, phrase) for phrase in required)
        and not any(has(content, phrase) for phrase in excluded)
    ]
    q = " ".join([*(f'"{" ".join(one)}"' for one in required), *(f'-"{" ".join(one)}"' for one in excluded)])
    response = search(user, q, conversation_id=conversation, limit=2)
    found = [item["message"]["id"] for item in response.get_json()]
    while link := next_link(response):
        response = user.get(link)
        found += [item["message"]["id"] for item in response.get_json()]
    assert found == expected[::-1], (q, contents)
