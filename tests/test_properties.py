"""Properties that hold for any input, tried with generated ones, and a model that the service has to agree with."""

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from flask import Flask
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from werkzeug.test import TestResponse

from tests.support.api import PASSWORD, POSTS, Api
from tests.support.provider import ScriptedProvider

pytestmark = pytest.mark.slow

# the same inputs each time; the database and the user stay from example to example
hypothesis.settings.register_profile(
    "service",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
SETTINGS = hypothesis.settings.get_profile("service")

# everything that JSON text can stand for, and some that it can't: lone surrogates, NUL, NaN
UNSTORABLE = st.text(st.sampled_from("\x00\ud83d\ude00a"), min_size=1, max_size=4)
ANY_TEXT = UNSTORABLE | st.text(max_size=40)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
STORABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")

FIELDS: dict[str, tuple[str, ...]] = {**POSTS, "/auth/refresh": ()}


@st.composite
def posts(draw: st.DrawFn) -> tuple[str, Any]:
    """A path and a body: a right one with anything in one of its fields, or anything at all. `...` is a right value."""
    path = draw(st.sampled_from(sorted(FIELDS)))
    if not FIELDS[path] or draw(st.integers(0, 4)) == 0:
        return path, draw(ANY_JSON)
    return path, dict.fromkeys(FIELDS[path], ...) | {
        draw(st.sampled_from(FIELDS[path])): draw(UNSTORABLE | ANY_TEXT | ANY_JSON)
    }


@hypothesis.settings(SETTINGS, max_examples=250)
@hypothesis.given(post=posts(), escaped=st.booleans())
def test_no_json_breaks_a_post(
    ada: Api, provider: ScriptedProvider, post: tuple[str, Any], escaped: bool
) -> None:
    path, body = post
    if isinstance(body, dict):
        valid = valid_values(ada, provider.url)
        body = {name: valid[path, name] if value is ... else value for name, value in body.items()}
    raw = json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    response = ada.post(path, data=raw, content_type="application/json")
    text = response.get_data(as_text=True)  # of a stream: to its end
    response.close()
    assert response.status_code in (200, 201, 400, 401, 403, 404, 409, 429), text
    if response.status_code >= 400:
        assert response.mimetype == "application/problem+json"


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(raw=st.binary(max_size=60))
def test_no_bytes_break_a_post(ada: Api, raw: bytes) -> None:
    for path in FIELDS:
        response = ada.post(path, data=raw, content_type="application/json")
        assert response.status_code in (400, 401), (path, response.get_data(as_text=True))


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(
    query=st.text(st.characters(max_codepoint=255), max_size=30),
    name=st.sampled_from(["limit", "after", "before"]),
)
def test_no_query_breaks_a_list(ada: Api, query: str, name: str) -> None:
    for text in (query, f"{name}={query}"):
        response = ada.get("/auth/tokens", environ_overrides={"QUERY_STRING": text})
        assert response.status_code in (200, 400), text


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(
    text=st.text(st.characters(max_codepoint=255), max_size=30),
    name=st.sampled_from(["limit", "after", "before", "archived", "pinned", "q", "branch", "around"]),
)
def test_no_query_breaks_a_list_with_filters(ada: Api, text: str, name: str) -> None:
    conversation_id = valid_values(ada, "https://p.example")["/chat/messages", "conversation_id"]
    for path in ("/chat/conversations", f"/chat/conversations/{conversation_id}/messages"):
        query = f"{name}={text}"
        response = ada.get(path, environ_overrides={"QUERY_STRING": query})
        assert response.status_code in (200, 400), (path, query)


@hypothesis.settings(SETTINGS, max_examples=100)
@hypothesis.given(
    title=st.text(STORABLE, min_size=1, max_size=60), cut=st.tuples(st.integers(0, 59), st.integers(1, 60))
)
def test_a_conversation_is_found_by_any_part_of_its_title(ada: Api, title: str, cut: tuple[int, int]) -> None:
    begin, length = cut[0] % len(title), cut[1]
    conversation_id = ada.conversation(title)["id"]
    found = ada.get("/chat/conversations", query_string={"q": title[begin : begin + length], "limit": "1"})
    assert [one["id"] for one in found.get_json()] == [conversation_id]


@st.composite
def authorizations(draw: st.DrawFn) -> Callable[[str], str]:
    """A header that is anything, or made from a token of which one part is something else."""
    anything = st.text(st.characters(max_codepoint=255), max_size=80)
    kind = draw(st.sampled_from(["anything", "bearer", "personal", "part", "inserted", "cut"]))
    text, place = draw(anything), draw(st.integers(0, 1000))

    def header(token: str) -> str:
        if kind == "anything":
            return text
        if kind == "bearer":
            return f"Bearer {text}"
        if kind == "personal":
            return f"Bearer chat_pat_{text}"
        if kind == "cut":
            return f"Bearer {token[: place % len(token)]}"
        if kind == "inserted":
            at = place % len(token)
            return f"Bearer {token[:at]}{text}{token[at:]}"
        parts = token.split(".")
        parts[place % 3] = text
        return "Bearer " + ".".join(parts)

    return header


@hypothesis.settings(SETTINGS, max_examples=400)
@hypothesis.given(authorization=authorizations())
def test_no_other_token_is_accepted(ada: Api, stranger: Api, authorization: Callable[[str], str]) -> None:
    assert ada.token is not None
    header = authorization(ada.token)
    hypothesis.assume(header.strip() != f"Bearer {ada.token}" and "\n" not in header and "\r" not in header)
    response = stranger.get("/auth/me", environ_overrides={"HTTP_AUTHORIZATION": header})
    assert response.status_code == 401, header
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@hypothesis.settings(SETTINGS, max_examples=150)
@hypothesis.given(
    content=st.text(STORABLE, min_size=1, max_size=200), title=st.text(STORABLE, min_size=1, max_size=255)
)
def test_text_comes_back_byte_for_byte(ada: Api, content: str, title: str) -> None:
    conversation = ada.conversation(title)
    place = f"/chat/conversations/{conversation['id']}"
    message = ada.message(conversation["id"], content)
    assert (conversation["title"], message["content"]) == (title, content)
    assert ada.get(place).get_json()["title"] == title
    assert ada.get(f"{place}/messages").get_json()[0]["content"] == content


def valid_values(user: Api, endpoint: str) -> dict[tuple[str, str], Any]:
    """A value for each field with which its body would be accepted, made once for each user."""
    if "values" not in user.user:
        conversation = user.conversation()["id"]
        message = user.calling(conversation, "call_1")["id"]
        replying = user.provider(api_endpoint=endpoint)["id"]
        user.config(replying)
        user.user["values"] = {
            "email": user.user["email"],
            "password": PASSWORD,
            "name": "N",
            "expires_in_days": 1,
            "user_id": user.user_id,
            "title": "T",
            "conversation_id": conversation,
            "role": "tool",
            "tool_call_id": "call_1",
            "content": "C",
            "message_id": message,
            "file_type": "image/png",
            "file_path": "a.png",
            "api_endpoint": "https://p.example/v1",
            "shared": False,
            "provider_id": replying,
            "api_key": "sk-1",
            "api_format": "openai",
            "context_window": 1000,
            "default_model": "m",
            "model": "m",
            "parent_id": message,
            "stream": False,
            "parameters": {},
            "on_disconnect": "continue",
        }
    return {(path, name): user.user["values"][name] for path, names in FIELDS.items() for name in names}


# -- a model of the service ----------------------------------------------------------------------------------

PAGE_SIZES = st.integers(1, 7)
CONTENTS = st.text(STORABLE, min_size=1, max_size=20)


class Conversations(RuleBasedStateMachine):
    """Two users who write, retry and read. The model is a list of contents for each conversation."""

    places = Bundle("places")  # (owner, conversation id)
    sent_once = Bundle("sent_once")  # (owner, key, body, first answer)
    users: tuple[Api, Api]

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[tuple[int, str], list[str]] = {}

    @rule(target=places, owner=st.integers(0, 1))
    def begin(self, owner: int) -> tuple[int, str]:
        place = owner, self.users[owner].conversation()["id"]
        self.contents[place] = []
        return place

    @rule(place=places, content=CONTENTS)
    def write(self, place: tuple[int, str], content: str) -> None:
        owner, conversation = place
        message = self.users[owner].message(conversation, content)
        self.contents[place].append(content)
        assert message["position"] == len(self.contents[place])

    @rule(target=sent_once, place=places, content=CONTENTS)
    def write_with_key(self, place: tuple[int, str], content: str) -> Any:
        owner, conversation = place
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"conversation_id": conversation, "role": "user", "content": content}
        first = self.users[owner].made("/chat/messages", body, headers=key)
        self.contents[place].append(content)
        return owner, key, body, first

    @rule(sent=sent_once)
    def retry(self, sent: Any) -> None:
        owner, key, body, first = sent
        again = self.users[owner].post("/chat/messages", body, headers=key)
        assert (again.status_code, again.get_json()) == (201, first)
        assert again.headers["Idempotency-Replayed"] == "true"

    @rule(sent=sent_once, content=CONTENTS)
    def reuse_key(self, sent: Any, content: str) -> None:
        owner, key, body, _ = sent
        hypothesis.assume(content != body["content"])
        refused = self.users[owner].post("/chat/messages", body | {"content": content}, headers=key)
        assert refused.status_code == 422

    @rule(target=sent_once, sent=consumes(sent_once))
    def use_anothers_key(self, sent: Any) -> Any:
        """A key is its user's own: the other one's request is looked at as if there were none."""
        owner, key, body, _ = sent
        refused = self.users[1 - owner].post("/chat/messages", body, headers=key)
        assert refused.status_code == 404
        return multiple(sent)

    @rule(place=places)
    def trespass(self, place: tuple[int, str]) -> None:
        owner, conversation = place
        other = self.users[1 - owner]
        body = {"conversation_id": conversation, "role": "user", "content": "x"}
        assert other.post("/chat/messages", body).status_code == 404
        assert other.get(f"/chat/conversations/{conversation}/messages").status_code == 404

    @rule(place=places, limit=PAGE_SIZES)
    def read_forwards(self, place: tuple[int, str], limit: int) -> None:
        assert self.walk(place, f"limit={limit}", "next", limit) == self.contents[place]

    @rule(place=places, limit=PAGE_SIZES)
    def read_backwards(self, place: tuple[int, str], limit: int) -> None:
        pages = self.walk(place, f"limit={limit}&before={2**53 - 1}", "prev", limit)
        assert pages == self.contents[place]

    @rule(place=places, position=st.integers(0, 12), limit=PAGE_SIZES)
    def read_from_the_middle(self, place: tuple[int, str], position: int, limit: int) -> None:
        contents = self.contents[place]
        after = self.read(place, f"after={position}&limit={limit}").get_json()
        before = self.read(place, f"before={position}&limit={limit}").get_json()
        assert [one["content"] for one in after] == contents[position : position + limit]
        assert [one["content"] for one in before] == contents[: max(0, position - 1)][-limit:]

    @rule(
        place=places,
        position=st.integers(1, 12),
        limit=PAGE_SIZES,
        direction=st.sampled_from(["after", "before"]),
    )
    def turn_around(self, place: tuple[int, str], position: int, limit: int, direction: str) -> None:
        """From a page in the middle, the link back leads to what was passed by."""
        page = self.read(place, f"{direction}={position}&limit={limit}")
        relation = "prev" if direction == "after" else "next"
        link = link_of(page, relation)
        assert (link is not None) == bool(page.get_json())
        if link is not None:
            found = [one["position"] for one in self.users[place[0]].get(link).get_json()]
            ends = [one["position"] for one in page.get_json()]
            count = len(self.contents[place])
            behind = range(ends[-1] + 1, count + 1)[:limit]
            in_front = range(1, ends[0])[-limit:]
            assert found == list(in_front if direction == "after" else behind)

    @invariant()
    def everything_is_there(self) -> None:
        """Cheap for every step; the pages are walked by rules."""
        for (owner, conversation), contents in self.contents.items():
            found = self.users[owner].get(f"/chat/conversations/{conversation}").get_json()
            assert found["message_count"] == len(contents)

    def teardown(self) -> None:
        for place, contents in self.contents.items():
            messages = self.read(place, "").get_json()
            assert [(one["position"], one["content"]) for one in messages] == list(enumerate(contents, 1))

    def read(self, place: tuple[int, str], query: str) -> TestResponse:
        owner, conversation = place
        return self.users[owner].get(f"/chat/conversations/{conversation}/messages?{query}")

    def walk(self, place: tuple[int, str], query: str, relation: str, limit: int) -> list[str]:
        """All contents, page by page along the Link headers, in the list's order."""
        pages = []
        response = self.read(place, query)
        while True:
            page = [one["content"] for one in response.get_json()]
            assert len(page) <= limit
            pages.append(page)
            link = link_of(response, relation)
            if link is None:
                break
            response = self.users[place[0]].get(link)
        if relation == "prev":
            pages.reverse()
        return [content for page in pages for content in page]


def link_of(response: TestResponse, relation: str) -> str | None:
    found = re.search(rf'<([^>]+)>; rel="{relation}"', response.headers.get("Link", ""))
    return found[1] if found else None


def test_service_agrees_with_its_model(app: Flask, ada: Api, bob: Api) -> None:
    class OverTwoUsers(Conversations):
        users = (ada, bob)

    settings = hypothesis.settings(SETTINGS, max_examples=20, stateful_step_count=25)
    run_state_machine_as_test(OverTwoUsers, settings=settings)
