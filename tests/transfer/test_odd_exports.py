"""Exports at the edges: cut off anywhere, with odd ids, at the last positions, very deep and very broad."""

import io
import uuid
from typing import Any

import pytest
from flask import Flask

from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.errors import ApiError
from chat_api.search_index.lexemes import number_of
from chat_api.transfer import conversation_importer, service
from chat_api.transfer.formats.ndjson import CUT_OFF
from chat_api.transfer.service import MANY
from chat_api.users.models import User
from tests.support.api import Api
from tests.support.plans import analyze, plan_of
from tests.support.tables import path_in_tables
from tests.transfer.exports import (
    Line,
    attachment,
    chain,
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

MAX_POSITION = 2**30


def import_into(app: Flask, user_id: str, content: bytes) -> dict[str, Any] | None:
    """What the import tells; None where the file is refused as a whole."""
    with app.app_context():
        try:
            report, steps = service.import_file(user_id=user_id, file=io.BytesIO(content))
            for _ in steps:
                db.session.commit()
        except ApiError:
            return None
        return report.to_json()


def an_account(app: Flask) -> str:
    """The id of a user without a password: making one with a password takes long."""
    user_id = new_id()
    with app.app_context():
        db.session.add(User(id=user_id, issuer="https://issuer.example", subject=user_id))
        db.session.commit()
    return user_id


def search(user: Api, q: str, **parameters: Any) -> list[str]:
    """The ids of all messages that are found, over all pages."""
    found: list[str] = []
    while True:
        page = user.get("/chat/search", query_string={"q": q, **parameters}).get_json()
        found += [item["message"]["id"] for item in page]
        if not page:
            return found
        parameters["after"] = found[-1]


# -- cut off -----------------------------------------------------------------------------------------------------


def test_file_that_is_cut_anywhere_leaves_whole_conversations(app: Flask) -> None:
    talks: list[list[Line]] = []
    for _ in range(2):
        first = conversation(title="T", last_position=2)
        said = chain(first, 2)
        talks.append([first, *said, attachment(said[-1]), completion(said[-1])])
    own = provider()
    content = file_of(own, *talks[0], *talks[1])
    line_ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    # at each end of a line and around it, and here and there inside
    cuts = sorted(
        {cut for end in line_ends for cut in (end - 1, end, end + 1)} | set(range(0, len(content), 211))
    )
    ends = [content.rindex(kind) + len(kind) for kind in (b'{"type":"conversation"', b'{"type":"end"')]
    for cut in cuts:
        user_id = an_account(app)
        report = import_into(app, user_id, content[:cut])
        rows = rows_of(app, user_id)
        whole = len(rows["conversations"])
        assert [len(rows[name]) for name in ("messages", "message_terms")] == [2 * whole] * 2, cut
        assert [len(rows[name]) for name in ("attachments", "completions")] == [whole] * 2, cut
        if report is None:
            assert cut < line_ends[0]  # nothing but a part of the head
        elif cut < len(content) - 1:
            # where the next conversation begins, or the last line, what precedes it is complete
            assert report["conversations"]["imported"] == whole == sum(cut >= end for end in ends)
            assert report["errors"], cut
            assert report["errors"][-1]["line"] == content[:cut].count(b"\n") + (
                content[cut - 1] != ord("\n")
            )
            assert report["errors"][-1]["detail"] == CUT_OFF or "not JSON" in report["errors"][-1]["detail"]
        else:
            assert (report["errors"], whole) == ([], 2)


# -- ids ---------------------------------------------------------------------------------------------------------


def test_ids_of_any_version_are_kept_and_found(app: Flask, ada: Api) -> None:
    ids = [str(uuid.uuid4()) for _ in range(20)]
    ids += ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-fffffffffffe"]
    ids += ["ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000", new_id()]
    first = conversation(id=str(uuid.uuid4()), last_position=len(ids))
    said: list[Line] = []
    for position, id_ in enumerate(ids, 1):
        said.append(
            message(first, position, said[-1] if said else None, id=id_, content=f"cuttlefish {position}")
        )
    first["active_leaf_id"] = ids[-1]
    report = imported(ada, file_of(first, *({**line, "id": line["id"].upper()} for line in said)))
    assert not report["errors"]
    assert [line for line in restorable(exported(ada)) if line["type"] != "end"] == [first, *said]
    for limit in (1, 7, 100):
        assert sorted(search(ada, "cuttlefish", limit=limit)) == sorted(ids)
    said_now = ada.message(first["id"], "cuttlefish now")
    assert said_now["parent_id"] == ids[-1]
    for id_ in ids[:3]:
        assert ada.get(f"/chat/messages/{id_}").status_code == 200


@pytest.mark.parametrize(
    "id_", ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"]
)
def test_ids_that_stand_for_no_object_are_refused(ada: Api, id_: str) -> None:
    first, second = conversation(id=id_), conversation()
    said = message(second, 1, id=id_)
    content = file_of(provider(id=id_), first, message(first, 1), second, said)
    report = imported(ada, content)
    assert [(error["line"], error["detail"]) for error in report["errors"]] == [
        (line, "id: Not a UUID.") for line in (2, 3)
    ]
    # a message may have any id
    assert restorable(exported(ada))[1:-1] == [{**said, "id": id_.lower()}]


def test_many_ids_with_the_same_beginning_cost_no_more_than_others(app: Flask, ada: Api, bob: Api) -> None:
    """SQLite numbers messages by the first bits of their ids, and no two alike."""
    beginning = new_id()[:18] + "-8"
    ids = [f"{beginning}000-{number:012x}" for number in range(3000)]
    assert len({number_of(id_) for id_ in ids}) == 1
    first = conversation(last_position=len(ids))
    said: list[Line] = []
    for position, id_ in enumerate(ids, 1):
        said.append(message(first, position, said[-1] if said else None, id=id_, content="cuttlefish"))
    assert imported(ada, file_of(first, *said))["messages"]["imported"] == len(ids)
    assert sorted(search(ada, "cuttlefish", limit=100)) == ids
    # whose ids begin alike gets in, too
    again = message(conversation(), 1, id=ids[0], content="cuttlefish")
    other = conversation(id=again["conversation_id"])
    assert not imported(bob, file_of(other, again))["errors"]
    assert search(bob, "cuttlefish") == [ids[0]]


# -- numbers -----------------------------------------------------------------------------------------------------


def test_last_positions_leave_room_for_what_is_appended(app: Flask, ada: Api) -> None:
    first = conversation(last_position=MAX_POSITION)
    last = message(first, MAX_POSITION)
    first["active_leaf_id"] = last["id"]
    assert not imported(ada, file_of(first, last))["errors"]
    said = ada.message(first["id"])
    assert (said["position"], said["parent_id"]) == (MAX_POSITION + 1, last["id"])
    page = ada.get(f"/chat/conversations/{first['id']}/messages?after={MAX_POSITION}").get_json()
    assert page == [said]
    for lines in (
        [conversation(last_position=MAX_POSITION + 1)],
        [first := conversation(), message(first, MAX_POSITION + 1)],
    ):
        [error] = imported(ada, file_of(*lines))["errors"]
        assert "position" in error["detail"]


@pytest.mark.parametrize(
    "moment",
    ["1969-12-31T23:59:59.999999Z", "9999-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z"],
)
def test_times_that_no_id_can_have_are_refused(ada: Api, moment: str) -> None:
    for field in ("created_at", "updated_at"):
        [error] = imported(ada, file_of(conversation(**{field: moment})))["errors"]
        assert field in error["detail"]


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"])
def test_first_and_last_times_are_kept(ada: Api, moment: str) -> None:
    first = conversation(created_at=moment, updated_at=moment)
    said = message(first, 1, created_at=moment)
    own = provider(created_at=moment)
    assert not imported(ada, file_of(own, first, said))["errors"]
    found = ada.get(f"/chat/conversations/{first['id']}").get_json()
    [listed] = ada.get("/chat/conversations").get_json()
    assert found == listed
    assert found["created_at"][:19] == moment[:19]
    assert ada.message(first["id"])["position"] == 2


# -- trees -------------------------------------------------------------------------------------------------------


def test_very_deep_and_very_broad_conversation(app: Flask, ada: Api) -> None:
    first = conversation()
    deep = chain(first, 10_000)
    broad = [message(first, 10_001 + number, deep[4999]) for number in range(1000)]
    first |= {"active_leaf_id": broad[500]["id"], "last_position": 11_000}
    report = imported(ada, file_of(first, *deep, *broad))
    assert report["messages"]["imported"] == 11_000
    path = path_in_tables(app, ada.user_id, first["id"])
    assert path == [line["id"] for line in (*deep[:5000], broad[500])]
    moved = ada.patch(f"/chat/conversations/{first['id']}", {"active_leaf_id": deep[-1]["id"]})
    assert moved.status_code == 200
    assert path_in_tables(app, ada.user_id, first["id"]) == [line["id"] for line in deep]
    first["active_leaf_id"] = deep[-1]["id"]
    assert restorable(exported(ada))[:-1] == [first, *deep, *broad]


def test_messages_are_looked_up_by_their_key_right_after_an_import(
    app: Flask, ada: Api, bob: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last that Postgres has seen is another user with nearly all messages."""
    for user, count in ((bob, 2 * MANY), (ada, MANY)):
        analyze(app)
        first = conversation()
        said = chain(first, count)
        imported(user, file_of(first, *said))
    plan = plan_of(app, monkeypatch, lambda: ada.get(f"/chat/messages/{said[0]['id']}"))
    assert "pk_messages" in plan or "sqlite_autoindex_messages_1" in plan, plan
    assert "uq_messages_user_id_conversation_id_position" not in plan, plan


# -- and found again ---------------------------------------------------------------------------------------------


def test_what_is_imported_is_found_and_what_is_deleted_is_not(ada: Api) -> None:
    first = conversation(title="The sea")
    said = chain(first, 3)
    said[1]["content"] = "A vampire squid is no squid"
    imported(ada, file_of(first, *said))
    assert search(ada, '"vampire squid"') == [said[1]["id"]]
    assert search(ada, "squid", conversation_id=first["id"]) == [said[1]["id"]]
    assert ada.delete(f"/chat/conversations/{first['id']}").status_code == 204
    assert search(ada, "squid") == []
    # deleted, it comes back with the next import
    assert imported(ada, file_of(first, *said))["conversations"]["imported"] == 1
    assert search(ada, "squid") == [said[1]["id"]]


@pytest.mark.parametrize("rows", [2, 500])
def test_batches_are_bounded_by_bytes(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Whatever makes a line long: texts, tool calls or a provider's problem."""
    monkeypatch.setattr(conversation_importer, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", rows)
    sizes: list[int] = []
    insert = conversation_importer.messages.insert_messages

    def counted(rows: list[dict[str, Any]], terms: list[Any]) -> None:
        sizes.append(len(rows))
        insert(rows=rows, terms=terms)

    monkeypatch.setattr(conversation_importer.messages, "insert_messages", counted)
    first = conversation()
    said = chain(first, 4)
    for line in said:
        line |= {"role": "assistant", "tool_calls": [{"id": "a", "name": "f", "arguments": "x" * 60_000}]}
    problem = {"status": 502, "detail": "x" * 120_000}
    assert not imported(ada, file_of(first, *said, completion(said[-1], status="failed", problem=problem)))[
        "errors"
    ]
    assert sizes == [2, 2]
