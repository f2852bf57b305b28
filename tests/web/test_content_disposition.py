"""File names in a header."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from chat_api.web.content_disposition import content_disposition

HEADER = re.compile(
    r'attachment; filename="(?P<plain>[ !#$&-)+-.0-9;=@A-\[\]-~]*)"'
    r"(; filename\*=UTF-8''(?P<encoded>([A-Za-z0-9!#$&+\-.^_`|~]|%[0-9A-F]{2})*))?"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", 'attachment; filename="a.png"'),
        ("two words.pdf", 'attachment; filename="two words.pdf"'),
        ("naïve résumé", "attachment; filename=\"naive resume\"; filename*=UTF-8''na%C3%AFve%20r%C3%A9sum%C3%A9"),
        ("€ rates", "attachment; filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates"),
        ('a"b\\c.png', "attachment; filename=\"a_b_c.png\"; filename*=UTF-8''a%22b_c.png"),
        ("50%41.txt", "attachment; filename=\"50_41.txt\"; filename*=UTF-8''50%2541.txt"),
        ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie_ x\"; filename*=UTF-8''a__Set-Cookie%3A%20x"),
        ("invoice\u202egnp.exe", 'attachment; filename="invoice_gnp.exe"'),
        ("", 'attachment; filename="file"'),
        ("\ud800.txt", 'attachment; filename="_.txt"'),
    ],
)  # fmt: skip
def test_names_are_quoted(name: str, expected: str) -> None:
    assert content_disposition("attachment", name) == expected


@given(st.text(max_size=300))
def test_any_name_is_one_well_formed_header(name: str) -> None:
    value = content_disposition("attachment", name)
    matched = HEADER.fullmatch(value)
    assert matched, value
    read = unquote(matched["encoded"]) if matched["encoded"] is not None else matched["plain"]
    assert parse_options_header(value)[1]["filename"] == read
    assert not set(read) & set("/\\\0\r\n")
    if name.isalnum():
        assert read == name


@pytest.mark.parametrize("character", ["a", "é", "猫", "🦊", "\ufdfa", "\ud800"])
@pytest.mark.parametrize("ending", ["", ".pdf", "." + "e" * 250])
def test_the_longest_name_leaves_a_proxy_room_for_other_headers(character: str, ending: str) -> None:
    name = (character * 255)[: 255 - len(ending)] + ending
    value = content_disposition("attachment", name)
    assert HEADER.fullmatch(value)
    assert len(value) < 2800
    read = str(parse_options_header(value)[1]["filename"])
    assert read == name or character in "🦊\ud800"
    assert len(read) > 190
    assert len(ending) > 16 or read.endswith(ending)
