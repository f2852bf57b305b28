"""The list of conversations: its order, filters and pages, while others write, and what it costs."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.conversations.models import Conversation
from chat_api.database.columns import new_id, now
from chat_api.database.session import db
from tests.support.api import Api
from tests.support.pages import ids, links, recency_of, walk
from tests.support.plans import analyze, plan_of
from tests.support.problems import assert_problem

PATH = "/chat/conversations"


def titles(user: Api, query: str = "", **parameters: str) -> list[str]:
    """The titles of a page; `parameters` are encoded."""
    response = user.get(f"{PATH}{query}", query_string=parameters or None)
    assert response.status_code == 200, response.get_data(as_text=True)
    return [one["title"] for one in response.get_json()]


@pytest.mark.happy_path("list_conversations")
def test_the_list_shows_each_conversation_as_it_is_alone(ada: Api, bob: Api) -> None:
    made = [ada.conversation(f"C {number}") for number in range(3)]
    bob.conversation("Not hers")
    ada.message(made[0]["id"])
    ada.patch(f"{PATH}/{made[1]['id']}", {"pinned": True})
    listed = ada.get(PATH).get_json()
    assert listed == [ada.get(f"{PATH}/{made[number]['id']}").get_json() for number in (0, 2, 1)]


def test_the_list_is_sorted_by_last_use(ada: Api) -> None:
    a, b, c = (ada.conversation(name)["id"] for name in "abc")
    assert titles(ada) == ["c", "b", "a"]
    message = ada.message(a)
    assert titles(ada) == ["a", "c", "b"]
    ada.message(b)
    assert titles(ada) == ["b", "a", "c"]
    ada.patch(f"{PATH}/{c}", {"title": "C", "pinned": True})
    ada.patch(f"{PATH}/{a}", {"active_leaf_id": None})
    ada.delete(f"/chat/messages/{message['id']}")
    assert titles(ada) == ["b", "a", "C"]  # none of this is use


def test_conversations_of_one_moment_have_one_order(app: Flask, ada: Api) -> None:
    moment = now()
    with app.app_context():
        for _ in range(7):
            db.session.add(
                Conversation(
                    user_id=ada.user_id, id=new_id(), title="x", created_at=moment, updated_at=moment
                )
            )
        db.session.commit()
    whole = ids(ada.get(PATH))
    assert whole == sorted(whole, reverse=True)
    for limit in (1, 2, 3):
        assert [one for page in walk(ada, f"{PATH}?limit={limit}", "next") for one in page] == whole


def test_pages_go_on_both_ways_while_others_write(ada: Api) -> None:
    """Nothing that did not move is missed or shown twice; what moved to the top is shown there."""
    made = {name: ada.conversation(name)["id"] for name in "abcdefgh"}
    first = ada.get(f"{PATH}?limit=3")
    assert [one["title"] for one in first.get_json()] == ["h", "g", "f"]
    ada.message(made["b"])  # from a page that is still to come
    ada.message(made["g"])  # from the one that was seen
    ada.conversation("new")
    second = ada.get(links(first)["next"])
    assert [one["title"] for one in second.get_json()] == ["e", "d", "c"]
    ada.message(made["d"])
    assert ada.delete(f"{PATH}/{made['c']}").status_code == 204  # the cursor names it
    last = ada.get(links(second)["next"])
    assert ([one["title"] for one in last.get_json()], list(links(last))) == (["a"], ["prev"])
    back = [last]
    while "prev" in links(back[-1]):
        back.append(ada.get(links(back[-1])["prev"]))
    seen = [one["title"] for page in reversed(back) for one in page.get_json()]
    assert seen == ["d", "new", "g", "b", "h", "f", "e", "a"] == titles(ada)
    assert max(len(page.get_json()) for page in back) == 3


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_whoever_pages_while_all_is_used_sees_each_unmoved_one_once(ada: Api, limit: int) -> None:
    made = [ada.conversation(f"{number}")["id"] for number in range(12)]
    moving = itertools.cycle(made[::3])
    response = ada.get(f"{PATH}?limit={limit}")
    seen = ids(response)
    while "next" in links(response):
        ada.message(next(moving))
        response = ada.get(links(response)["next"])
        seen += ids(response)
    unmoved = [one for one in made[::-1] if one not in made[::3]]
    assert [one for one in seen if one in unmoved] == unmoved
    assert len(set(seen)) == len(seen)


def test_filters_and_all_their_combinations(ada: Api) -> None:
    made: list[dict[str, Any]] = []
    for archived, pinned, title in itertools.product((False, True), (False, True), ("Trip", "Work")):
        one = ada.conversation(title)
        changed = ada.patch(f"{PATH}/{one['id']}", {"archived": archived, "pinned": pinned})
        made.insert(0, changed.get_json())
    flags = (None, False, True)
    for only_archived, only_pinned, text in itertools.product(flags, flags, (None, "RI")):
        query = [f"archived={str(only_archived).lower()}"] if only_archived is not None else []
        query += [f"pinned={str(only_pinned).lower()}"] if only_pinned is not None else []
        query += [f"q={text}"] if text else []
        expected = [
            one["id"]
            for one in made
            if one["archived"] == bool(only_archived)
            and only_pinned in (None, one["pinned"])
            and (text or "").lower() in one["title"].lower()
        ]
        path = f"{PATH}?limit=1&{'&'.join(query)}"
        assert [one for page in walk(ada, path, "next") for one in page] == expected, path
        if len(expected) > 1:
            response = ada.get(path)
            link = links(response)["next"]
            assert link == f"{PATH}?limit=1&after={recency_of(response.get_json()[0])}" + "".join(
                f"&{part}" for part in query
            )
            assert f"&{'&'.join(query)}".rstrip("&") in links(ada.get(link))["prev"]
            backwards = f"{path}&before=1970-01-01T00:00:00.000000Z_{new_id()}"
            pages = walk(ada, backwards, "prev")
            assert [one for page in reversed(pages) for one in page] == expected


TITLES = ["100% sure", "100 sure", "a_b", "axb", "back\\slash", "it's", 'say "hi"', "ÄRGER im Büro", "Путешествие",
          "ΟΔΟΣ", "日本語 旅行", "a&b=c#d+e", "😀 smile", "tab\there", "two  blanks", "x;DROP TABLE"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%", ["100% sure"]),
        ("100%", ["100% sure"]),
        ("_", ["a_b"]),
        ("a_b", ["a_b"]),
        ("\\", ["back\\slash"]),
        ("\\s", ["back\\slash"]),
        ("'", ["it's"]),
        ("''", []),
        ('"', ['say "hi"']),
        ("ärger", ["ÄRGER im Büro"]),
        ("BÜRO", ["ÄRGER im Büro"]),
        ("argEr", ["ÄRGER im Büro"]),
        ("пУТЕШ", ["Путешествие"]),
        ("旅", ["日本語 旅行"]),
        ("A&B=C#D+E", ["a&b=c#d+e"]),
        ("😀", ["😀 smile"]),
        ("tab\there", ["tab\there"]),
        ("  ", ["two  blanks"]),
        ("drop table", ["x;DROP TABLE"]),
        ("' OR 1=1 --", []),
        ("SURE", ["100 sure", "100% sure"]),
        ("x" * 255, []),
    ],
)
def test_text_is_found_whatever_its_case_and_accents(
    app: Flask, library: Api, text: str, found: list[str]
) -> None:
    assert titles(library, q=text) == found


@pytest.fixture(scope="module")
def library(app: Flask) -> Api:
    from chat_api.auth import service as auth
    from tests.support.api import PASSWORD, new_email

    address = new_email()
    with app.app_context():
        auth.register_with_role(email=address, password=PASSWORD, role="user")
        db.session.commit()
    user = Api(app, user={"email": address}).log_in()
    for title in TITLES:
        user.conversation(title)
    return user


def test_links_keep_any_text(library: Api) -> None:
    library.conversation("odd & 100%25 = '\"é #+😀")
    library.conversation("odd & 100%25 = '\"é #+😀")
    first = library.get(PATH, query_string={"q": "& 100%25 = '\"É #+😀", "limit": "1"})
    assert len(first.get_json()) == 1
    second = library.get(links(first)["next"])
    assert [one["title"] for one in second.get_json()] == ["odd & 100%25 = '\"é #+😀"]
    for page in (first, second):
        for one in page.get_json():
            library.delete(f"{PATH}/{one['id']}")


# -- what it costs --------------------------------------------------------------------------------------------


@pytest.fixture
def fill(only_user: Api) -> Callable[[int], None]:
    """Give the user many conversations past the service, every second pinned; and a look at them by the planner."""

    def insert(count: int) -> None:
        begin = now() - timedelta(days=1)
        rows = [
            {"user_id": only_user.user_id, "id": new_id(), "title": f"Conversation {number}", "archived": False,
             "pinned": number % 2 == 0, "message_count": 0, "last_position": 0,
             "created_at": begin, "updated_at": begin + timedelta(milliseconds=number)}
            for number in range(count)
        ]  # fmt: skip
        with only_user.app.app_context():
            db.session.execute(sa.insert(db.metadata.tables["conversations"]), rows)
            db.session.commit()
        analyze(only_user.app)

    return insert


QUERIES = {
    "first page": "?limit=50",
    "deep page": "?limit=50&after={middle}",
    "backwards": "?limit=50&before={middle}",
    "pinned": "?limit=50&pinned=true",
    "archived": "?limit=50&archived=true",
    "text": "?limit=50&q=conversation",
}


def test_a_page_is_read_from_the_index_without_sorting(
    only_user: Api, fill: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(3000)
    middle = recency_of(only_user.get(f"{PATH}?limit=1000").get_json()[-1])
    for name, query in QUERIES.items():
        path = PATH + query.format(middle=middle)
        plan = plan_of(only_user.app, monkeypatch, partial(only_user.get, path))
        index = "ix_conversations_pinned" if name == "pinned" else "ix_conversations_recent"
        assert plan.count(index) == plan.count("Limit") + ("SEARCH" in plan), (name, plan)
        assert "Sort" not in plan, (name, plan)
        assert "TEMP B-TREE" not in plan, (name, plan)
        if name in ("deep page", "backwards"):  # it begins at the cursor
            assert "updated_at" in plan, (name, plan)


# -- queries -----------------------------------------------------------------------------------------------

ANY_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


@pytest.mark.parametrize("query", [
    "archived=", "archived=1", "archived=yes", "archived=True", "archived=true&archived=true", "pinned=null",
    "pinned=0", "pinned=%00", "q=", f"q={'x' * 256}", "q=%00", "q=a%00b", "q=a&q=b",
    "limit=0", "branch=all", "user_id=x",
    *(f"{direction}={cursor}" for direction in ("after", "before") for cursor in (
        "", "1", "x", "_", ANY_ID, f"_{ANY_ID}", "2026-11-23T09:30:00.123456Z",
        "2026-11-23T09:30:00.123456Z_", f"2026-11-23T09:30:00.123456Z_{ANY_ID[:-1]}",
        f"2026-11-23T09:30:00.123456Z_{ANY_ID}0", f"2026-11-23T09:30:00.123456Z_{ANY_ID}%0A",
        f"2026-11-23T09:30:00.123456Z_{ANY_ID}_", f"2026-11-23T09:30:00Z_{ANY_ID}",
        f"2026-11-23T09:30:00.123456_{ANY_ID}", f"2026-11-23T09:30:00.123456%2B00:00_{ANY_ID}",
        f"2026-02-30T09:30:00.123456Z_{ANY_ID}", f"2026-13-01T09:30:00.123456Z_{ANY_ID}",
        f"2026-11-23T24:30:00.123456Z_{ANY_ID}", f"0999-11-23T09:30:00.123456Z_{ANY_ID}",
        f"0000-11-23T09:30:00.123456Z_{ANY_ID}", f"10000-11-23T09:30:00.123456Z_{ANY_ID}",
        f"٢٠٢٦-11-23T09:30:00.123456Z_{ANY_ID}", f"2026-11-23T09:30:00.1Z_{ANY_ID}",
        f"%202026-11-23T09:30:00.123456Z_{ANY_ID}", "%00", "%FF", "' OR 1=1 --",
    )),
])  # fmt: skip
def test_bad_query_of_conversations_is_refused(user: Api, query: str) -> None:
    assert_problem(user.get(f"/chat/conversations?{query}"), 400, query.partition("=")[0])


@pytest.mark.parametrize("query", [
    "", "archived=true&pinned=false&q=x&limit=1000", "q=%25", "q='", f"q={'x' * 255}", "q=%F0%9F%98%80",
    f"after=1000-01-01T00:00:00.000000Z_{ANY_ID}", f"before=9999-12-31T23:59:59.999999Z_{ANY_ID.upper()}",
    f"after=2024-02-29T00:00:00.000000Z_{'f' * 8}-ffff-ffff-ffff-{'f' * 12}",
])  # fmt: skip
def test_good_query_of_conversations_is_answered(user: Api, query: str) -> None:
    assert user.get(f"/chat/conversations?{query}").status_code == 200


@pytest.mark.parametrize("title", ["Café Lisboa", "Cafe\u0301 Lisboa", "ＣＡＦＥ\u3000ＬＩＳＢＯＡ"])
@pytest.mark.parametrize("text", ["Café", "cafe", "CAFE\u0301 l", "ｃａｆé"])
def test_titles_are_compared_like_messages(ada: Api, title: str, text: str) -> None:
    ada.conversation(title)
    ada.conversation("Another one")
    assert [
        found["title"] for found in ada.get("/chat/conversations", query_string={"q": text}).get_json()
    ] == [title]


def test_other_letters_of_titles(ada: Api) -> None:
    pairs = {
        "Straße": "STRASSE",
        "Łódź": "lodz",
        "Ærø": "aero",
        "ΟΔΟΣ": "οδος",
        "한국어": "한국",
        "カフェ": "ｶﾌｪ",
        "İstanbul": "istanbul",
    }
    for title in pairs:
        ada.conversation(title)
    for title, text in pairs.items():
        found = ada.get("/chat/conversations", query_string={"q": text}).get_json()
        assert [one["title"] for one in found] == [title]
    assert ada.get("/chat/conversations", query_string={"q": "하"}).get_json() == []
