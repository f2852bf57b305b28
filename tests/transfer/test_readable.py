"""Whatever an import accepts can be read: by every endpoint, a completion's context, an export and an import.

The files here are made of valid lines in which some values are odd. What is refused is refused with a report.
"""

import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.support.api import Api
from tests.transfer.exports import (
    NDJSON,
    TIME,
    Line,
    attachment,
    completion,
    conversation,
    exported,
    lines_of,
    message,
    provider,
    restorable,
    send,
)
from tests.transfer.test_products import JSON_VALUES, MESSAGE, PRODUCTS

LONGEST_ECHO = 50
SECRET = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijklmnopqrstuvwxyz"
PROFILE = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    phases=[hypothesis.Phase.generate],  # to shrink an example takes minutes
    report_multiple_bugs=False,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


TEXTS = st.sampled_from(
    ["", " ", "x", SECRET, "\x00", "\x01\u2028", "ﬁ😀", "e\u0301", "\ufffe", "<script>", "' OR 1=1 --", "%00", "0",
     "x" * 256, "x" * 5000]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [-1, 0, 1, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64, 10**40, -(2**63) - 1, 0.5, 2.0, 1e300, -0.0]
)
NESTED = st.builds(
    nested, st.sampled_from([1, 2, 7, 9, 60, 253, 254, 255, 600]), st.sampled_from([list, dict])
)
TIMES = st.sampled_from(
    ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z", "9999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
     "9999-12-31T23:59:59-23:59", "1970-01-01T00:00:00+23:59", "2026-11-23T09:30:00.123456+05:30", "2026-11-23", "now"]
)  # fmt: skip
IDS = st.sampled_from(
    ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
     "FFFFFFFF-0000-4000-8000-00000000000A"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ODD = st.none() | st.booleans() | NUMBERS | TEXTS | NESTED | TIMES | IDS | JSON
# for the fields that have a shape: such as are nearly valid
COUNTS = st.none() | NUMBERS
KINDS = st.sampled_from(["text", "reasoning", "tool_call", "source", "else"])
CALLS = st.lists(st.fixed_dictionaries({"id": TEXTS, "name": TEXTS, "arguments": TEXTS}), max_size=2)
PLACES = st.lists(st.lists(NUMBERS, min_size=1, max_size=3), max_size=2)
URLS = st.sampled_from(["https://a.example/x", "http://b.example", "javascript:x", "https://"])
SOURCES = st.lists(
    st.fixed_dictionaries({"url": URLS, "title": st.none() | TEXTS, "places": PLACES}), max_size=2
)
PROBLEMS = st.dictionaries(
    st.sampled_from(["type", "title", "status", "code", "detail", "retry_after_s", "errors", SECRET]),
    NESTED | JSON,
    max_size=4,
)
SHAPED: dict[str, st.SearchStrategy[Any]] = {
    "usage": st.fixed_dictionaries(
        {"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "estimated": st.booleans()},
        optional={"cached_tokens": COUNTS, "reasoning_tokens": COUNTS},
    ),
    "problem": st.none() | PROBLEMS,
    "outline": st.none() | st.lists(st.tuples(KINDS, NUMBERS), max_size=4),
    "status": st.sampled_from(["completed", "incomplete", "failed", "cancelled", "in_progress", "queued"]),
    "role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]),
    "tool_calls": CALLS,
    "sources": SOURCES,
    "last_event_id": COUNTS,
    "reasoning": st.none() | TEXTS,
    "api_format": st.sampled_from(["openai", "anthropic", "other"]),
}


@st.composite
def changed(draw: st.DrawFn, line: Line) -> Line:
    """A line of which at most three values are odd; a field may be missing, and an unknown one be there."""
    of_messages = ("tool_calls", "sources") if line["type"] == "message" else ()
    shaped = [name for name in SHAPED if name in line or name in of_messages]
    result = dict(line)
    for name in draw(st.lists(st.sampled_from(shaped), max_size=2, unique=True)) if shaped else ():
        result[name] = draw(SHAPED[name])
    if draw(st.integers(0, 7)) == 0:
        result[draw(st.sampled_from([*line, SECRET]))] = draw(ODD)
    if draw(st.integers(0, 24)) == 0:
        del result[draw(st.sampled_from(list(line)))]
    return result


@st.composite
def lines(draw: st.DrawFn) -> list[Line]:
    """A provider and two conversations, with messages that branch, attachments and replies."""
    source = provider()
    found = [draw(changed(source))]
    for _ in range(2):
        first = conversation()
        found.append(draw(changed(first)))
        said: list[Line] = []
        for position in range(1, draw(st.integers(1, 4))):
            parent = draw(st.sampled_from(said)) if said else None
            role = draw(st.sampled_from(["user", "assistant"]))
            reply = message(first, position, parent, role=role, content="Hello, you")
            found.append(draw(changed(reply)))
            if draw(st.booleans()):
                found.append(draw(changed(attachment(reply))))
            if parent is not None and draw(st.booleans()):
                ended = completion(parent, message_id=reply["id"], provider_id=source["id"])
                found.append(draw(changed(ended)))
            said.append(reply)
    return found


def raw(line: Line) -> bytes:
    """As bytes; Python's own encoder writes what orjson refuses."""
    return json.dumps(line).encode()


def file_with(found: list[Line]) -> bytes:
    head: Line = {"type": "export", "version": 1, "exported_at": TIME}
    return b"\n".join(map(raw, [head, *found])) + b"\n"


def read_everything(user: Api, own_provider: str) -> None:
    """Call every reader of the API for all that the user has. None of them fails."""
    found = []
    for flag in ("archived=true", "archived=false", "pinned=true", "q=a"):
        found += listed(user, f"/chat/conversations?{flag}&limit=100")
    for path in ("/chat/llm-providers?limit=100", "/chat/user-llm-configs?limit=100"):
        listed(user, path)
    for q in ("hello", "x", "e*"):
        for sort in ("newest", "relevance"):
            listed(user, f"/chat/search?q={q}&sort={sort}")
    for conversation_id in {item["id"] for item in found}:
        path = f"/chat/conversations/{conversation_id}"
        get(user, path)
        messages = listed(user, path + "/messages?branch=all&limit=100")
        listed(user, path + "/messages")
        for said in messages:
            get(user, f"/chat/messages/{said['id']}")
            listed(user, f"{path}/messages?around={said['id']}", 200, 400)
            for attached in said.get("attachments", ()):
                get(user, f"/chat/attachments/{attached['id']}")
        for ended in listed(user, path + "/completions?limit=100"):
            path_of_it = f"/chat/completions/{ended['id']}"
            get(user, path_of_it)
            for after in ("", "?after=0", "?after=1"):
                with user.get(f"{path_of_it}/events{after}") as response:
                    assert response.status_code in (200, 204), response.get_data(as_text=True)
                    assert response.status_code == 204 or b"event: completion." in response.get_data()
            assert user.post(f"{path_of_it}/cancel").status_code == 200
        body = {
            "conversation_id": conversation_id,
            "provider_id": own_provider,
            "model": "m",
            "content": "And?",
        }
        response = user.post("/chat/completions?dry_run=true", body)
        assert response.status_code == 200, response.get_data(as_text=True)


def get(user: Api, path: str) -> Any:
    return listed(user, path)


def listed(user: Api, path: str, *statuses: int) -> Any:
    response = user.get(path)
    assert response.status_code in (statuses or (200,)), (path, response.get_data(as_text=True))
    return response.get_json()


def erase(user: Api) -> None:
    """Delete all conversations and providers, so that each example begins with nothing."""
    for line in exported(user):
        if line["type"] == "conversation":
            assert user.delete(f"/chat/conversations/{line['id']}").status_code == 204


@pytest.fixture(params=["openai", "anthropic"])
def reader(request: pytest.FixtureRequest, ada: Api) -> tuple[Api, str]:
    """A user, and a provider of hers with a key."""
    made = ada.provider(api_format=request.param)
    ada.config(made["id"])
    return ada, made["id"]


def assert_says_nothing_of(secret: str, text: str) -> None:
    assert secret[: LONGEST_ECHO + 1] not in text


@pytest.mark.slow
@PROFILE
@hypothesis.given(found=lines())
def test_what_is_imported_can_be_read_and_imported_again(
    reader: tuple[Api, str], bob: Api, found: list[Line]
) -> None:
    user, own_provider = reader
    try:
        response = send(user, file_with(found))
        assert response.status_code == 200, response.get_data(as_text=True)
        assert_says_nothing_of(SECRET, response.get_data(as_text=True))
        assert all(len(error["detail"]) <= 600 for error in response.get_json()["errors"])
        read_everything(user, own_provider)
        with user.get("/chat/export") as export:
            content = export.get_data()
        again = send(bob, content, NDJSON).get_json()
        assert not again["errors"], again
        assert without_providers(lines_of(user.get("/chat/export"))) == without_providers(exported(bob))
    finally:
        erase(user)
        erase(bob)


def without_providers(found: list[Line]) -> list[Line]:
    """The lines without what is another's for another user: providers and their ids."""
    return [
        {name: value for name, value in line.items() if name != "provider_id"}
        for line in restorable(found)
        if line["type"] != "provider"
    ]


# -- exports of ChatGPT --------------------------------------------------------------------------------------------

NODE_IDS = st.sampled_from(["a", "b", "c", "d", ""])
PART = {
    "text": ODD,
    "content_type": ODD,
    "asset_pointer": TEXTS | ODD,
    "audio_asset_pointer": ODD | st.fixed_dictionaries({"asset_pointer": ODD}),
}
PARTS = st.lists(st.fixed_dictionaries({}, optional=PART) | TEXTS | ODD, max_size=3)
CONTENTS = st.fixed_dictionaries(
    {}, optional={"content_type": ODD, "parts": PARTS | ODD, "text": ODD, "result": ODD}
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "author": ODD | st.fixed_dictionaries({"role": TEXTS | ODD | st.sampled_from(["user", "assistant"])}),
        "create_time": NUMBERS | ODD,
        "content": CONTENTS | ODD,
        "metadata": ODD | st.fixed_dictionaries({"is_visually_hidden_from_conversation": ODD}),
    },
)
NODES = st.fixed_dictionaries(
    {},
    optional={
        "message": MESSAGES | ODD,
        "parent": NODE_IDS | ODD,
        "children": st.lists(NODE_IDS | ODD, max_size=3) | ODD,
    },
)
CHATGPT = st.fixed_dictionaries(
    {"mapping": st.dictionaries(NODE_IDS, NODES | ODD, max_size=4)},
    optional={
        "title": TEXTS | ODD,
        "create_time": NUMBERS | ODD,
        "update_time": NUMBERS | ODD,
        "current_node": NODE_IDS | ODD,
        "conversation_id": TEXTS | ODD,
        "id": TEXTS | ODD,
        "is_archived": ODD,
        "is_starred": ODD,
    },
)


@pytest.mark.nightly
@PROFILE
@hypothesis.given(found=st.lists(CHATGPT | ODD, min_size=1, max_size=3))
def test_whatever_stands_in_an_export_of_chatgpt_can_be_read(
    reader: tuple[Api, str], bob: Api, found: list[Any]
) -> None:
    assert_export_of_a_product_can_be_read(reader, bob, found)


@pytest.mark.nightly
@PROFILE
@hypothesis.given(messages=st.lists(MESSAGE, max_size=4), value=JSON_VALUES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_whatever_stands_in_an_export_of_another_product_can_be_read(
    reader: tuple[Api, str], bob: Api, product: str, messages: list[Any], value: Any
) -> None:
    assert_export_of_a_product_can_be_read(reader, bob, [PRODUCTS[product](messages, value)])


def assert_export_of_a_product_can_be_read(reader: tuple[Api, str], bob: Api, found: list[Any]) -> None:
    """What is stored of it can be read, sent to a provider, exported, and imported by another user."""
    user, own_provider = reader
    try:
        response = send(user, json.dumps(found).encode(), "application/json")
        assert response.status_code in (200, 400), response.get_data(as_text=True)
        assert_says_nothing_of(SECRET, response.get_data(as_text=True))
        read_everything(user, own_provider)
        with user.get("/chat/export") as export:
            content = export.get_data()
        assert not send(bob, content, NDJSON).get_json()["errors"]
        assert without_providers(exported(user)) == without_providers(exported(bob))
    finally:
        erase(user)
        erase(bob)


@pytest.mark.parametrize(
    "version", [SECRET, nested(500), nested(500, dict), 10**300, -1, None, 1.5, [1], True]
)
def test_version_is_repeated_in_short(ada: Api, version: Any) -> None:
    response = send(ada, raw({"type": "export", "version": version}) + b"\n")
    assert response.status_code == 400
    assert_says_nothing_of(SECRET, response.get_data(as_text=True))
