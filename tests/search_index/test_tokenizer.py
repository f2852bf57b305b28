"""Cutting text into words."""

import re
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chat_api.search_index.lexemes import LONGEST_PHRASE, number_of, parts_of, plain_text, vector_text
from chat_api.search_index.tokenizer import (
    LONGEST_WORD,
    Word,
    fold,
    is_spaceless,
    term_of,
    words,
    words_with_spans,
)

# what the rules are about comes up seldom in all of Unicode
TEXTS = st.text() | st.text("abzAZ09éÀßıłøﬁ²½ _-'.’🙂東京かがｶﾞกิ็한글한ָאُم\u0301\u200d\u00adﷺ\U00020000𝒜")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("?! …", []),
        ("Foo-bar, foo_bar: don't", ["foo", "bar", "foo", "bar", "don", "t"]),
        ("Café CAFÉ cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("Straße Łódź København İstanbul ısı", ["strasse", "lodz", "kobenhavn", "istanbul", "isi"]),
        ("ﬁne ｆｕｌｌ x² Ⅷ", ["fine", "full", "x2", "viii"]),
        ("Ἀθήνα ἀθηνα", ["αθηνα", "αθηνα"]),
        ("ёлка Ёлка елка", ["елка", "елка", "елка"]),
        ("東京都", ["東京", "京都", "都"]),
        ("駅", ["駅"]),
        ("iPhone15を買う", ["iphone15", "を買", "買う", "う"]),
        ("ｶﾞｷﾞ", ["ガギ", "ギ"]),
        ("か\uff9eき\u3099", ["がぎ", "ぎ"]),
        ("กิน", ["กิ", "ิน", "น"]),
        ("학교", ["학교", "교"]),
        ("हिन्दी", ["हिन्दी"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("שָׁלוֹם", ["שלום"]),
        ("co\u00adop", ["coop"]),
        ("x" * 100, ["x" * LONGEST_WORD]),
        ("é" * 100, ["e" * LONGEST_WORD]),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert [word.term for word in words_with_spans(text)] == expected


@given(TEXTS)
@example("a" * 100 + " " + "é" * 100)
def test_words_and_places_agree(text: str) -> None:
    assert words(text) == [word.term for word in words_with_spans(text)]


@given(TEXTS)
@example("か\uff9e")
def test_places_are_where_the_words_stand(text: str) -> None:
    last = 0
    for word in words_with_spans(text):
        assert 0 <= last <= word.start < word.end <= len(text)
        last = word.start
        part = text[word.start : word.end]
        # a vowel sign of Thai that ends a run is a term, and no word by itself
        assert word.term in (fold(part) or part) if len(word.term) <= 2 else words(part) == [word.term]


@given(TEXTS)
def test_words_are_made_of_letters_and_marks_or_pictographs(text: str) -> None:
    for word in words(text):
        assert 0 < len(word) <= LONGEST_WORD
        assert is_pictograph(word) or all(
            one.isalnum() or unicodedata.category(one)[0] == "M" for one in word
        )


def is_pictograph(word: str) -> bool:
    """Whether it is one, or the flag of a pair of letters."""
    return (
        all(unicodedata.category(one) in ("So", "Sm", "Po", "Pd", "Cn", "Sk", "Ps", "Pe") for one in word)
        and len(word) <= 2
    )


@given(TEXTS)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    for word in words_with_spans(text):
        if not is_spaceless(word.term):
            assert term_of(word.term) == word.term


@given(TEXTS)
def test_case_makes_no_difference(text: str) -> None:
    assume("\u0345" not in text)  # a mark whose capital is a letter
    assert words(text.lower()) == words(text.lower().casefold())


@given(st.lists(st.sampled_from(["a", "bc", "é"])), st.lists(st.sampled_from(["a", "bc", "é"])))
def test_text_that_is_added_changes_no_earlier_word(first: list[str], second: list[str]) -> None:
    before, after = " ".join(first), " ".join(second)
    assert words(f"{before} {after}")[: len(first)] == words(before)


def test_all_words_of_a_long_text_are_kept() -> None:
    for filler in ("word ", "東 ", "é "):
        text = filler * 20_000 + "needle late needle 🍕 " + filler
        assert words(text)[20_000:-1] == ["needle", "late", "needle", "🍕"]
        assert words(text) == [word.term for word in words_with_spans(text)]


@pytest.mark.parametrize(
    "form", ["{:040}", "{}", "東{:x}", "{:05}é", "a", "a b", "the {} of the {} in the {}", "東"]
)
def test_vectors_have_room_for_each_phrase(form: str) -> None:
    long = words(" ".join(form.replace("{}", str(number)).format(number) for number in range(60_000)))
    parts = parts_of(long)
    begin = 0
    for number, part in enumerate(parts):
        begin -= (LONGEST_PHRASE - 1) if number else 0
        assert part == long[begin : begin + len(part)]
        begin += len(part)
        assert len(part) > LONGEST_PHRASE
        vector = vector_text("u" * 36, "c" * 36, "m" * 36, part, is_long=True)
        # quotes, colons and positions are not part of it; each lexeme takes 6 bytes more at most
        lexemes = re.findall("'([^']*)'", vector)
        assert sum(len(one.encode()) + 6 for one in lexemes) < 1024 * 1024
        assert len(part) < 16_384
        assert max(Counter(part).values()) < 256
    assert begin == len(long)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=255))
def test_short_message_has_one_vector(short: list[str]) -> None:
    assert parts_of(short) == [short]


def test_pairs_are_the_same_with_and_without_their_spans() -> None:
    for text in ("東京都", "ｶﾞかﾞ", "한국어", "กิก", "東e京"):
        assert words(text) == [word.term for word in words_with_spans(text)]


def test_words_have_places_in_characters() -> None:
    assert list(words_with_spans("🙂 Ünïcode!")) == [Word("🙂", 0, 1), Word("unicode", 2, 9)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("done ✅ and pizza🍕!", ["done", "✅", "and", "pizza", "🍕"]),
        ("👍🏽 ❤️ ❤", ["👍", "❤", "❤"]),
        ("👨‍👩‍👧", ["👨", "👩", "👧"]),
        ("🇵🇹🇩🇪", ["🇵🇹", "🇩🇪"]),
        ("🍕🍕", ["🍕", "🍕"]),
        ("→ ★ 🀄", ["→", "★", "🀄"]),
        ("- _ ! \ufe0f 🏽", []),
    ],
)
def test_pictographs_are_words(text: str, expected: list[str]) -> None:
    assert words(text) == [word.term for word in words_with_spans(text)] == expected


def test_lexemes_begin_with_their_owner() -> None:
    user, conversation, message = (f"01900000-0000-7000-8000-{digit * 12}" for digit in "abc")
    assert vector_text(user, conversation, message, ["one", "two", "one"]) == (
        " 'aaaaaa~01900000000070008000bbbbbbbbbbbb' 'aaaaaa~019' 'aaaaaa~0190' 'aaaaaa~01900' 'aaaaaa~019000'"
        " 'aaaaaa~0190000'"
        " 'aaaaaaone':1 'aaaaaatwo':2 'aaaaaaone':3"
    )
    assert plain_text(conversation, ["one", "two"]) == " ~01900000000070008000bbbbbbbbbbbb one two"
    assert plain_text(conversation, []) == " ~01900000000070008000bbbbbbbbbbbb"


@given(
    st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1)
)
def test_numbers_rise_with_ids(time: int, random: int, other_time: int, other_random: int) -> None:
    one, other = sorted([uuid7(time, random), uuid7(other_time, other_random)])
    assert 0 <= number_of(one) <= number_of(other) < 2**63


def uuid7(time_ms: int, random: int) -> str:
    digits = f"{time_ms << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@pytest.mark.parametrize("run", ["東", "한", "é", "ก"])
def test_a_long_run_costs_in_proportion_to_its_length(run: str) -> None:
    """Of a script without spaces it is all one run."""

    def cpu_s(text: str) -> float:
        began = time.thread_time()
        assert words(text)
        return time.thread_time() - began

    cpu_s(run * 100)
    assert cpu_s(run * 600_000) < 2 * (600_000 / 16_000) * cpu_s(run * 16_000) + 0.2
