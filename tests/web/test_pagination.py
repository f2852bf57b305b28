"""Pages and the Link headers between them, of every list."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from chat_api.auth import service as auth
from chat_api.database.session import db
from chat_api.llm_providers.models import LLMProvider
from chat_api.web.pagination import MAX_PAGE_BYTES, MAX_POSITION
from tests.support.api import PASSWORD, Api, new_email
from tests.support.pages import ids, links, recency_of, walk
from tests.support.provider import ScriptedProvider, openai_chunk, openai_stream
from tests.support.tables import invite

MEBIBYTE = 1024 * 1024
ANY_ID = "00000000-0000-7000-8000-000000000000"
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass
class Listing:
    """A list that can be filled: where it is, and what makes one more item."""

    user: Api
    path: str
    add: Callable[[int], dict[str, Any]]
    cursor: str
    is_newest_first: bool = False
    items: list[dict[str, Any]] = field(default_factory=list)

    def fill(self, count: int) -> list[Any]:
        self.items += [self.add(len(self.items) + 1) for _ in range(count)]
        return self.ids

    @property
    def ids(self) -> list[Any]:
        return [item["id"] for item in self.in_order]

    @property
    def in_order(self) -> list[dict[str, Any]]:
        return self.items[::-1] if self.is_newest_first else self.items

    def cursor_of(self, index: int) -> Any:
        """The cursor of an item; attachments don't show their positions."""
        if self.cursor == "recency":
            return recency_of(self.in_order[index])
        return self.in_order[index]["id"] if self.cursor == "id" else index + 1

    @property
    def end(self) -> Any:
        """A cursor behind everything that there may be."""
        return {"position": MAX_POSITION, "id": LAST_ID, "recency": f"1970-01-01T00:00:00.000000Z_{ANY_ID}"}[
            self.cursor
        ]

    def get(self, query: str = "") -> TestResponse:
        return self.user.get(self.path + query)


def conversations_of(user: Api) -> Listing:
    return Listing(
        user, "/chat/conversations", lambda number: user.conversation(f"C {number}"), "recency", True
    )


def messages_of(user: Api) -> Listing:
    conversation = user.conversation()["id"]
    path = f"/chat/conversations/{conversation}/messages"
    return Listing(user, path, lambda number: user.message(conversation, f"Message {number}"), "position")


def attachments_of(user: Api) -> Listing:
    message = user.message(user.conversation()["id"])["id"]
    path = f"/chat/messages/{message}/attachments"
    return Listing(user, path, lambda number: user.attachment(message, f"uploads/{number}.png"), "position")


def tokens_of(user: Api) -> Listing:
    return Listing(
        user, "/auth/tokens", lambda number: user.made("/auth/tokens", {"name": f"T {number}"}), "id"
    )


def completions_of(user: Api, provider: ScriptedProvider, model: str = "m") -> Listing:
    conversation, provider_id = user.conversation()["id"], user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    path = f"/chat/conversations/{conversation}/completions"
    return Listing(user, path, lambda number: user.completion(conversation, provider_id, model=model), "id")


def providers_of(user: Api) -> Listing:
    """The user's own and shared ones in turn; those that other tests shared are taken away."""
    with user.app.app_context():
        address = new_email()
        auth.register_with_role(email=address, password=PASSWORD, role="admin")
        db.session.execute(sa.delete(LLMProvider).where(LLMProvider.owner_id.is_(None)))
        db.session.commit()
    admin = Api(user.app, user={"email": address}).log_in()
    return Listing(
        user,
        "/chat/llm-providers",
        lambda number: user.provider() if number % 2 else admin.provider(shared=True),
        "id",
    )


def configs_of(user: Api) -> Listing:
    return Listing(user, "/chat/user-llm-configs", lambda number: user.config(user.provider()["id"]), "id")


LISTINGS: dict[str, Callable[[Api, ScriptedProvider], Listing]] = {
    "/chat/conversations": lambda user, _: conversations_of(user),
    "/chat/conversations/{conversation_id}/messages": lambda user, _: messages_of(user),
    "/chat/conversations/{conversation_id}/completions": completions_of,
    "/chat/messages/{message_id}/attachments": lambda user, _: attachments_of(user),
    "/auth/tokens": lambda user, _: tokens_of(user),
    "/auth/invitations": lambda user, _: Listing(
        user, "/auth/invitations", lambda number: {"id": invite(user)}, "id"
    ),
    "/chat/llm-providers": lambda user, _: providers_of(user),
    "/chat/user-llm-configs": lambda user, _: configs_of(user),
}


@pytest.fixture(params=list(LISTINGS))
def listing(request: pytest.FixtureRequest, ada: Api, provider: ScriptedProvider) -> Listing:
    return LISTINGS[request.param](ada, provider)


@pytest.fixture(params=[path for path in LISTINGS if path != "/chat/conversations"])
def growing(request: pytest.FixtureRequest, ada: Api, provider: ScriptedProvider) -> Listing:
    """A list whose new items come last."""
    return LISTINGS[request.param](ada, provider)


def test_every_list_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    lists = {
        path
        for path, item in paths.items()
        for parameter in item.get("get", {}).get("parameters", [])
        if parameter.get("name") == "limit"
    }
    elsewhere = {
        "/chat/search"
    }  # goes one way only, and what it shows has no id: tests/search walks through it
    assert lists == set(LISTINGS) | elsewhere


def test_a_list_that_fits_has_no_links(listing: Listing) -> None:
    assert ids(listing.get()) == []
    made = listing.fill(3)
    for query in ("", "?limit=3", "?limit=1000"):
        response = listing.get(query)
        assert (ids(response), links(response)) == (made, {})


def test_links_lead_forwards_through_the_whole_list(listing: Listing) -> None:
    made = listing.fill(7)
    assert walk(listing.user, f"{listing.path}?limit=3", "next") == [made[:3], made[3:6], made[6:]]
    assert walk(listing.user, f"{listing.path}?limit=1", "next") == [[one] for one in made]


def test_links_lead_backwards_through_the_whole_list(listing: Listing) -> None:
    made = listing.fill(7)
    path = f"{listing.path}?limit=3&before={listing.end}"
    assert walk(listing.user, path, "prev") == [made[4:], made[1:4], made[:1]]
    oldest = listing.get(f"?limit=3&before={listing.cursor_of(1)}")
    assert (ids(oldest), list(links(oldest))) == (made[:1], ["next"])
    assert ids(listing.user.get(links(oldest)["next"])) == made[1:4]


def test_a_page_links_to_both_of_its_neighbours(listing: Listing) -> None:
    made = listing.fill(7)
    first = listing.get("?limit=3")
    assert list(links(first)) == ["next"]
    middle = listing.user.get(links(first)["next"])
    assert sorted(links(middle)) == ["next", "prev"]
    last = listing.user.get(links(middle)["next"])
    assert (ids(last), list(links(last))) == (made[6:], ["prev"])
    assert ids(listing.user.get(links(last)["prev"])) == made[3:6]
    assert ids(listing.user.get(links(middle)["prev"])) == made[:3]


def test_links_are_relative_and_keep_the_limit(listing: Listing) -> None:
    listing.fill(3)
    response = listing.user.get(f"{listing.path}?limit=2", headers={"Host": "evil.example"})
    link = urlsplit(links(response)["next"])
    assert (link.scheme, link.netloc, link.path) == ("", "", listing.path)
    assert parse_qs(link.query) == {"limit": ["2"], "after": [str(listing.cursor_of(1))]}


def test_a_cursor_stays_right_while_others_write(growing: Listing) -> None:
    growing.fill(4)
    response = growing.get("?limit=3")
    seen = ids(response)
    while "next" in links(response):
        if len(growing.ids) < 9:
            growing.fill(3)
        response = growing.user.get(links(response)["next"])
        seen += ids(response)
    assert seen == growing.ids
    assert len(seen) > 9


def test_a_reader_at_the_end_goes_on_from_its_cursor(growing: Listing) -> None:
    growing.fill(2)
    last = growing.cursor_of(1)
    response = growing.get(f"?after={last}")
    assert (ids(response), links(response)) == ([], {})
    growing.fill(1)
    assert ids(growing.get(f"?after={last}")) == growing.ids[2:]


def test_a_cursor_outlives_the_item_that_it_names(ada: Api) -> None:
    for listing in (tokens_of(ada), providers_of(ada)):
        made = listing.fill(5)
        response = listing.get("?limit=3")
        assert ada.delete(f"{listing.path}/{made[2]}").status_code == 204
        assert ids(ada.get(links(response)["next"])) == made[3:]


@pytest.mark.parametrize("listed", [messages_of, attachments_of], ids=["messages", "attachments"])
def test_any_position_is_a_cursor(ada: Api, listed: Callable[[Api], Listing]) -> None:
    listing = listed(ada)
    made = listing.fill(2)
    for position in (0, 1, 2**31 - 1, 2**31, MAX_POSITION):
        assert ids(listing.get(f"?after={position}")) == made[position:]
        assert ids(listing.get(f"?before={position}")) == made[: max(0, position - 1)]


BAD_QUERIES = ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=%2B5", "limit=1_0",
               "limit=1&limit=2", "limit=٣", "after=x", "after=", "after=-1", "before=%00", "after=1%20",
               "after=9007199254740992", "after=99999999999999999999999", "offset=3"]  # fmt: skip


def test_a_bad_query_is_refused_naming_the_parameter(listing: Listing) -> None:
    for query in BAD_QUERIES:
        response = listing.get(f"?{query}")
        assert response.status_code == 400, query
        assert list(response.get_json()["errors"]) == [query.partition("=")[0]]


def test_both_directions_at_once_are_refused(listing: Listing) -> None:
    assert listing.get(f"?after={listing.end}&before={listing.end}").status_code == 400


@pytest.mark.parametrize("query", ["", f"?after={ANY_ID}", f"?before={ANY_ID}"])
def test_the_completions_of_what_is_not_there_are_not_found(ada: Api, bob: Api, query: str) -> None:
    message = bob.message(bob.conversation()["id"])
    for conversation_id in (message["conversation_id"], message["id"], ANY_ID):
        assert ada.get(f"/chat/conversations/{conversation_id}/completions{query}").status_code == 404


@pytest.mark.parametrize("query", ["", "?after=5", "?before=5"])
def test_the_list_of_what_is_not_there_is_not_found(ada: Api, bob: Api, query: str) -> None:
    message = bob.message(bob.conversation()["id"])
    paths = [
        f"/chat/conversations/{message['conversation_id']}/messages",
        f"/chat/conversations/{message['id']}/messages",
        f"/chat/messages/{message['id']}/attachments",
        "/chat/conversations/00000000-0000-7000-8000-000000000000/messages",
    ]
    assert [ada.get(path + query).status_code for path in paths] == [404] * 4


def test_a_page_holds_200_items_unless_it_says_otherwise(ada: Api) -> None:
    listing = messages_of(ada)
    made = listing.fill(201)
    response = listing.get()
    assert ids(response) == made[:200]
    assert ids(ada.get(links(response)["next"])) == made[200:]


def test_a_page_ends_early_rather_than_grow_large(ada: Api) -> None:
    listing = messages_of(ada)
    large, wide = "x" * MEBIBYTE, "🙂" * (MEBIBYTE // 4)
    conversation = listing.path.split("/")[3]
    listing.items += [
        ada.message(conversation, text) for text in (large, wide, large, "short", large, wide, large)
    ]
    made = listing.ids
    forwards = walk(ada, listing.path, "next")
    assert forwards == [made[:4], made[4:]]  # 3 MiB and a word, then 3 MiB
    assert walk(ada, f"{listing.path}?before=8", "prev") == [made[3:], made[:3]]
    page = listing.get().get_json()
    assert sum(len(message["content"].encode()) for message in page) <= MAX_PAGE_BYTES
    assert listing.get("?limit=1").get_json()[0]["content"] == large


def test_a_page_of_completions_ends_early_too(ada: Api, provider: ScriptedProvider) -> None:
    """A reply counts with its text, and with what the model thought before."""
    model, half = ada.user_id, "x" * (MEBIBYTE // 2 - 100)  # a reply may have 1 MiB
    thoughts = openai_chunk({"reasoning_content": half})
    provider.script(
        openai_stream(thoughts, half), openai_stream("short"), openai_stream(half, thoughts), model=model
    )
    listing = completions_of(ada, provider, model=model)
    made = listing.fill(7)  # of nearly 1 MiB each, but the second
    assert walk(ada, listing.path, "next") == [made[:5], made[5:]]
    assert walk(ada, f"{listing.path}?before={LAST_ID}", "prev") == [made[3:], made[:3]]
    assert len(listing.get("?limit=1").get_json()[0]["reasoning"]) == len(half)


def test_the_newest_page_comes_by_a_cursor_in_front_of_the_end(ada: Api) -> None:
    listing = messages_of(ada)
    made = listing.fill(5)
    response = listing.get(f"?limit=2&before={MAX_POSITION}")
    assert ids(response) == made[3:]
    assert ids(ada.get(links(response)["next"])) == []
    listing.fill(1)
    assert ids(ada.get(links(response)["next"])) == listing.ids[5:]
