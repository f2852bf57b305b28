"""What is exported and imported elsewhere is what it was: ids, times, order, branches attachments and completions."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import hypothesis.strategies as st
import orjson
import pytest
from flask import Flask

from chat_api.auth.tokens import InvalidToken
from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.transfer import conversation_importer, export_queries, routes, service
from chat_api.transfer.formats.ids import id_at
from chat_api.users.models import User
from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.transfer.exports import (
    Line,
    attachment,
    completion,
    conversation,
    exported,
    file_of,
    imported,
    message,
    provider,
    restorable,
    rows_of,
)

SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
WORD = TEXT.filter(bool)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.integers(0, 8_000 * 365 * 86_400 * 10**6).map(
    lambda us: (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
)
COUNTS = st.integers(0, 2**31 - 1)
MAYBE = st.sampled_from([True, False, False])


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that examples of a few rows have several."""
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 3)


def an_account(app: Flask) -> str:
    """The id of a user without a password: making one with a password takes long."""
    user_id = new_id()
    with app.app_context():
        db.session.add(User(id=user_id, issuer="https://issuer.example", subject=user_id))
        db.session.commit()
    return user_id


def taken_in(app: Flask, user_id: str, content: bytes, tmp: Any) -> dict[str, Any]:
    with app.app_context(), open(tmp, "w+b") as file:
        file.write(content)
        file.seek(0)
        report, steps = service.import_file(user_id=user_id, file=file)
        for _ in steps:
            db.session.commit()
        return report.to_json()


def given_out(app: Flask, user_id: str) -> list[Line]:
    with app.app_context():
        return [orjson.loads(line) for line in b"".join(service.export_all(user_id)).splitlines()]


@st.composite
def messages_of(draw: st.DrawFn, of: Line) -> list[Line]:
    """Messages with branches, gaps after deletions, attachments and completions; and the conversation's leaf."""
    lines: list[Line] = []
    said: list[Line] = []
    position = 0
    for _ in range(draw(st.integers(0, 8))):
        position += draw(st.sampled_from([1, 1, 1, 2, 50]))
        # mostly a chain, sometimes a branch, sometimes another first message
        parent = draw(st.sampled_from([None, *said, *said[-1:] * 6])) if said else None
        role = draw(st.sampled_from(["user", "assistant", "tool", "system", "developer"]))
        line = message(of, position, parent, role=role, content=draw(WORD), created_at=draw(TIMES))
        if role == "assistant":
            line["content"] = draw(TEXT)
            line["status"] = draw(st.sampled_from(["completed", "incomplete", "cancelled"]))
            if draw(MAYBE):
                line["tool_calls"] = [{"id": draw(TEXT), "name": draw(TEXT), "arguments": draw(TEXT)}]
            if draw(MAYBE):
                title, places = draw(st.none() | WORD), draw(st.sampled_from([[], [[0, 3], [7, 2**31 - 1]]]))
                line["sources"] = [{"url": "https://a.example/?x=1", "title": title, "places": places}]
            if draw(MAYBE):
                line["provider_state"] = {
                    "provider_id": "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6072",
                    "model": draw(WORD),
                    "state": {draw(TEXT): [draw(TEXT)]},
                }
        if role == "user" and draw(MAYBE):
            named = {"type": "attachment", "attachment_id": new_id()}  # which may be deleted since
            line["parts"] = [{"type": "text", "text": line["content"]}, named]
            line["content"] = draw(st.sampled_from(["", line["content"]]))
        if role == "tool" and draw(MAYBE):
            line["tool_call_id"] = draw(WORD)
        said.append(line)
        lines.append(line)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 5]))):
            lines.append(
                attachment(line, file_path="./" + "a" * draw(st.integers(1, 9)), created_at=draw(TIMES))
            )
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 4]))):
            lines.append(draw(completions_of(line)))
    if said:
        of["active_leaf_id"] = draw(st.sampled_from([None, *[line["id"] for line in said]]))
        of["last_position"] = position + draw(st.sampled_from([0, 0, 3]))
    return lines


@st.composite
def completions_of(draw: st.DrawFn, of: Line) -> Line:
    ended_well = draw(st.booleans())
    return completion(
        of,
        branch_id=draw(st.sampled_from([None, of["id"]])),
        model=draw(WORD),
        status="completed" if ended_well else draw(st.sampled_from(["failed", "incomplete", "cancelled"])),
        finish_reason=draw(st.none() | TEXT),
        problem=None if ended_well else {"status": 502, "detail": draw(TEXT)},
        usage={
            "prompt_tokens": draw(COUNTS),
            "completion_tokens": draw(st.none() | COUNTS),
            **{name: draw(COUNTS) for name in ("cached_tokens", "reasoning_tokens") if draw(MAYBE)},
            "estimated": True,
        },
        reasoning=draw(st.none() | WORD),
        warnings=draw(st.none() | st.lists(TEXT, min_size=1, max_size=3)),
        outline=draw(
            st.none() | st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), COUNTS).map(list))
        ),
        omitted_messages=draw(COUNTS),
        omitted_attachments=draw(st.none() | st.just([{"attachment_id": new_id(), "reason": "no_room"}])),
        last_event_id=draw(st.none() | st.integers(0, 2**53 - 1)),
        created_at=draw(TIMES),
        finished_at=draw(st.none() | TIMES),
    )


@st.composite
def accounts(draw: st.DrawFn) -> list[Line]:
    """The lines of an account, in the order in which it is exported."""
    lines = [provider(name=draw(WORD), context_window=draw(st.none() | st.just(4096)), slug=f"p-{number}")
             for number in range(draw(st.integers(0, 2)))]  # fmt: skip
    for _ in range(draw(st.integers(0, 4))):
        line = conversation(
            title=draw(WORD),
            archived=draw(st.booleans()),
            pinned=draw(st.booleans()),
            source=draw(st.sampled_from(["native", "chat", "import"])),
            **({"metadata": {draw(WORD): draw(TEXT)}} if draw(MAYBE) else {}),
            created_at=draw(TIMES),
            updated_at=draw(TIMES),
        )
        below = draw(messages_of(line))
        for other in below:
            if other["type"] == "completion" and lines and lines[0]["type"] == "provider":
                other["provider_id"] = lines[0]["id"]
        lines += [line, *below]
    return lines


@SETTINGS
@hypothesis.given(lines=accounts(), page_rows=st.sampled_from([1, 2, 500]))
def test_export_and_import_give_the_same_account(
    app: Flask, tmp_path_factory: pytest.TempPathFactory, lines: list[Line],
    page_rows: int,
) -> None:  # fmt: skip
    file = tmp_path_factory.mktemp("upload") / "export.ndjson"
    first, second = an_account(app), an_account(app)
    report = taken_in(app, first, file_of(*lines), file)
    assert not report["errors"]
    with small_pages(page_rows):
        out = given_out(app, first)
    assert [comparable(line) for line in restorable(out)[:-1]] == [
        comparable(line) for line in as_owned_by(first, lines)
    ]

    content = b"".join(orjson.dumps(line) + b"\n" for line in out)
    assert not taken_in(app, second, content, file)["errors"]
    assert restorable(given_out(app, second)) == as_owned_by(second, restorable(out))
    assert_paths_are_whole(app, second)

    before = rows_of(app, second)
    again = taken_in(app, second, content, file)
    assert (again["conversations"]["imported"], again["conversations"]["unchanged"]) == (
        0, report["conversations"]["imported"])  # fmt: skip
    assert rows_of(app, second) == before


class small_pages:
    """Pages of so few rows in the block."""

    def __init__(self, rows: int) -> None:
        self.rows, self.before = rows, export_queries.PAGE_ROWS

    def __enter__(self) -> None:
        export_queries.PAGE_ROWS = self.rows

    def __exit__(self, *error: object) -> None:
        export_queries.PAGE_ROWS = self.before


def comparable(line: Line) -> Line:
    """A line with its times as times: Postgres gives whole seconds without a fraction."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") and value else value
        for name, value in line.items()
    }


def as_owned_by(user_id: str, lines: list[Line]) -> list[Line]:
    """The lines as that user's export has them: a provider's id is everybody's, so each user's copy has its own."""
    providers = [line for line in lines if line["type"] == "provider"]
    ids = {
        line["id"]: id_at(datetime.fromisoformat(line["created_at"]), user_id, line["id"])
        for line in providers
    }
    copies = sorted(({**line, "id": ids[line["id"]]} for line in providers), key=lambda line: line["id"])
    return copies + [
        line
        | (
            {"provider_id": ids.get(line["provider_id"], line["provider_id"])}
            if "provider_id" in line
            else {}
        )
        for line in lines
        if line["type"] != "provider"
    ]


def assert_paths_are_whole(app: Flask, user_id: str) -> None:
    """The messages that are marked are those from the leaf up, and counts are what there is."""
    rows = rows_of(app, user_id)
    for conversation_row in rows["conversations"]:
        own = [row for row in rows["messages"] if row["conversation_id"] == conversation_row["id"]]
        by_id = {row["id"]: row for row in own}
        path, current = set(), conversation_row["active_leaf_id"]
        while current is not None:
            path.add(current)
            current = by_id[current]["parent_id"]
        assert {row["id"] for row in own if row["on_path"]} == path
        assert conversation_row["path_length"] == len(path)
        assert conversation_row["message_count"] == len(own)
        for row in own:
            numbers = [a["position"] for a in rows["attachments"] if a["message_id"] == row["id"]]
            assert sorted(numbers) == list(range(1, row["attachment_count"] + 1))


@pytest.mark.happy_path("export_all", "import_all")
def test_account_that_was_lived_in_comes_back(
    app: Flask, ada: Api, bob: Api, provider: ScriptedProvider
) -> None:
    chat = Chat.begin(ada, provider)
    reply = ada.completion(chat.conversation_id, chat.provider_id, model=chat.model)
    said = ada.message(chat.conversation_id, "Another")
    ada.attachment(said["id"])
    other = ada.made(
        "/chat/messages",
        {"conversation_id": chat.conversation_id, "role": "user", "content": "Instead",
         "parent_id": reply["parent_id"]},
    )  # fmt: skip
    gone = ada.message(ada.conversation()["id"])
    assert ada.delete(f"/chat/messages/{gone['id']}").status_code == 204
    lines = exported(ada)
    assert not any("key" in name for line in lines for name in line)

    report = imported(bob, b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert report["conversations"] == {"imported": 2, "updated": 0, "unchanged": 0, "failed": 0}
    assert report["completions"]["imported"] == 1
    assert "user-llm-configs" in report["notes"][0]
    path = f"/chat/conversations/{chat.conversation_id}/messages"
    for query in ("", "?branch=all"):
        assert bob.get(path + query).get_json() == ada.get(path + query).get_json()
    assert bob.get(path).get_json()[-1]["id"] == other["id"]
    replay = f"/chat/completions/{reply['id']}/events"
    assert replayed(bob, replay) == replayed(ada, replay)
    found = bob.get(f"/chat/completions/{reply['id']}").get_json()
    assert found == {**reply, "provider_id": found["provider_id"]}
    assert bob.get(f"/chat/llm-providers/{found['provider_id']}").status_code == 200


def replayed(user: Api, path: str) -> list[str]:
    """The text of a reply as it is replayed."""
    with user.get(path) as response:
        text = response.get_data(as_text=True)
    assert text
    return [line for line in text.splitlines() if "delta" in line]


@pytest.mark.parametrize("path", ["/chat/export", "/chat/export/zip"])
def test_an_export_breaks_off_when_its_login_is_revoked(
    ada: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(routes, "CHECK_TOKEN_EVERY_S", 0.0)
    user = ada.log_in()
    with user.get(path, buffered=False) as export:
        parts = export.iter_encoded()
        assert next(parts)
        assert user.post("/auth/logout").status_code == 204
        time.sleep(1)
        with pytest.raises(InvalidToken):
            list(parts)
