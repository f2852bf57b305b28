"""Small conversations are stored several at once: with the same result as one after the other, whatever they are."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from chat_api.database.session import db
from chat_api.transfer import conversation_importer, import_queries, service
from chat_api.transfer.file_importer import FileImporter
from chat_api.transfer.formats.ndjson import read_export
from chat_api.transfer.import_report import ImportReport
from chat_api.transfer.importer import Importer
from tests.search.test_search import found
from tests.search_index.test_index import require_whole_index
from tests.support.api import Api
from tests.support.tables import path_in_tables
from tests.transfer.exports import (
    Line,
    attachment,
    chain,
    completion,
    conversation,
    file_of,
    imported,
    message,
    provider,
    rows_of,
    whole,
)

OWN = ("user_id", "worker_id")
STORED = ("conversations", "messages", "message_terms", "attachments", "completions")


@pytest.fixture(params=["one group", "a group each"])
def grouped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether conversations of two messages and more are stored together, or in groups that may be stored at once."""
    if request.param == "a group each":
        monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 3)


def branches(**fields: Any) -> list[Line]:
    """A conversation with two branches; the first one has three messages, the second one two more."""
    first = conversation(**fields)
    one, two, three = chain(first, 3)
    other = message(first, 4, one)
    return [first, one, two, three, other, message(first, 5, other)]


def shapes() -> list[Line]:
    """The lines of conversations of all shapes."""
    lines: list[Line] = [provider()]
    for leaf in (1, 3, 4, 5):
        made = branches(last_position=9)
        made[0]["active_leaf_id"] = made[leaf]["id"]
        lines += made
    roots = conversation()
    lines += [roots, message(roots, 2), message(roots, 7)]
    lines += branches(active_leaf_id=provider()["id"])  # of which nothing is known
    lines += branches(last_position=5)  # an empty path
    lines.append(conversation(title="Empty", archived=True, pinned=True, metadata={"topic": "travel"}))
    first, *said = whole(3)
    hanging = [attachment(said[1]), attachment(said[1]), completion(said[1], provider_id=lines[0]["id"])]
    lines += [first, *said[:2], *hanging, said[2]]
    calls = [{"id": "a", "name": "f", "arguments": "{}"}]
    lines += [talk := conversation(), message(talk, 1, role="assistant", content="", tool_calls=calls)]
    for name in ("page-1", "page-1", "page-2"):  # an id of a page stands for one of them
        lines += [page := conversation(external_id=name), message(page, 1, external_id=name)]
    return lines


def stored_rows(app: Flask, user: Api, *, provider_ids: bool = False) -> dict[str, Any]:
    """What is stored of a user, without what is the owner's own."""
    rows = rows_of(app, user.user_id)
    without = (*OWN, "terms", "number") if provider_ids else (*OWN, "terms", "number", "provider_id")
    return {
        table: sorted(
            ({name: value for name, value in row.items() if name not in without} for row in rows[table]),
            key=repr,
        )
        for table in STORED
    }


def import_one_by_one(app: Flask, user: Api, content: bytes) -> ImportReport:
    report = ImportReport()
    with app.app_context():
        importer = Importer(
            user_id=user.user_id,
            report=report,
            files=FileImporter(user_id=user.user_id, report=report),
            one_by_one=True,
        )
        for _ in importer.restore(read_export(io.BytesIO(content), max_line_bytes=10**6)):
            db.session.commit()
    return report


def steps_of(app: Flask, user: Api, content: bytes) -> int:
    """Import a file; in how many transactions."""
    with app.app_context():
        _, steps = service.import_file(user_id=user.user_id, file=io.BytesIO(content))
        count = 0
        for _ in steps:
            db.session.commit()
            count += 1
    return count


def test_small_conversations_are_stored_in_one_transaction(app: Flask, ada: Api) -> None:
    lines = [line for _ in range(40) for line in whole(3)]
    assert steps_of(app, ada, file_of(*lines)) == 1
    assert len(rows_of(app, ada.user_id)["messages"]) == 120
    require_whole_index(app)


def test_the_rows_are_those_of_conversations_stored_one_by_one(
    app: Flask, ada: Api, bob: Api, make_user: Callable[..., Api]
) -> None:
    content = file_of(*shapes())
    report = imported(ada, content)
    assert report["errors"] == []
    import_one_by_one(app, bob, content)
    assert stored_rows(app, ada) == stored_rows(app, bob)
    for row in rows_of(app, ada.user_id)["conversations"]:
        path_in_tables(app, ada.user_id, row["id"])
    again = imported(ada, content)["conversations"]
    assert (again["imported"], again["updated"], again["failed"]) == (0, 0, 0)


@pytest.mark.usefixtures("grouped")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_clashes_loses_nothing_else(app: Flask, ada: Api, place: int) -> None:
    """Its message, attachment or completion has an id that is used already."""
    there = whole(2)
    there += [attachment(there[2]), completion(there[2])]
    imported(ada, file_of(*there))
    talks = [whole(2) for _ in range(3)]
    for kind in (2, 3, 4):
        taken = talks[place] = whole(2)
        clash = [taken[2], attachment(taken[2]), completion(taken[2])][kind - 2]
        if kind > 2:
            taken.append(clash)
        clash["id"] = there[kind]["id"]
        report = imported(ada, file_of(*(line for talk in talks for line in talk)))
        assert report["conversations"]["failed"] == 1
        [error] = report["errors"]
        assert (error["conversation_id"], error["detail"]) == (taken[0]["id"], "id: It is used already.")
    stored = {row["id"] for row in rows_of(app, ada.user_id)["conversations"]}
    assert stored == {
        there[0]["id"],
        *(talk[0]["id"] for number, talk in enumerate(talks) if number != place),
    }


@pytest.mark.usefixtures("grouped")
def test_two_of_a_file_that_clash_with_each_other(app: Flask, ada: Api) -> None:
    first, second, third = whole(2), whole(2), whole(2)
    second[1]["id"] = second[2]["parent_id"] = first[2]["id"]
    report = imported(ada, file_of(*first, *second, *third))
    assert (report["conversations"]["imported"], report["conversations"]["failed"]) == (2, 1)
    assert report["errors"][0]["conversation_id"] == second[0]["id"]


@pytest.mark.usefixtures("grouped")
def test_a_conversation_that_comes_twice_is_brought_up_to_date(app: Flask, ada: Api) -> None:
    talk = whole(3)
    report = imported(ada, file_of(*talk[:3], *whole(1), *talk))
    counts = report["conversations"]
    assert (counts["imported"], counts["updated"], counts["failed"]) == (2, 1, 0)
    assert len(rows_of(app, ada.user_id)["messages"]) == 4


@pytest.mark.usefixtures("grouped")
def test_errors_are_in_the_order_of_the_lines(ada: Api) -> None:
    there = whole(1)
    imported(ada, file_of(*there))
    lines: list[Line | bytes] = []
    for number in range(6):
        talk = whole(1)
        if number % 3 == 0:
            talk[1]["id"] = there[1]["id"]
        elif number % 3 == 1:
            talk[1]["parent_id"] = there[1]["id"]
        lines += talk if number % 3 != 2 else [talk[0], b'{"type":"message"}']
        lines += whole(1)
    report = imported(ada, file_of(*lines))
    # the last line also says that there were more messages
    numbers = [error["line"] for error in report["errors"] if error["conversation_id"]]
    assert (len(set(numbers)), numbers) == (6, sorted(numbers))
    assert report["conversations"]["imported"] == 6


@pytest.mark.usefixtures("grouped")
def test_one_that_comes_up_after_it_was_looked_for(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored by another request between the look and the transaction: then it is brought up to date."""
    talk, other = whole(2), whole(2)
    look = import_queries.which_are_here

    def look_too_early(**arguments: Any) -> set[str]:
        found = look(**arguments)
        monkeypatch.undo()
        imported(ada, file_of(*talk[:2]))
        return found

    monkeypatch.setattr(service, "with_rests", iter)  # which would keep the other one from writing
    monkeypatch.setattr(import_queries, "which_are_here", look_too_early)
    with app.app_context():
        report, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(file_of(*talk, *other)))
        for _ in steps:
            db.session.commit()
    assert report.errors == []
    assert (report.imported["conversation"], report.updated) == (1, 1)
    assert len(rows_of(app, ada.user_id)["messages"]) == 4


@pytest.mark.usefixtures("grouped")
def test_what_is_more_than_the_quota_is_refused_and_nothing_else(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MAX_MESSAGES_PER_USER", 5)
    talks = [whole(2), whole(2), whole(4), whole(1)]
    report = imported(ada, file_of(*(line for talk in talks for line in talk)))
    assert (report["conversations"]["imported"], report["conversations"]["failed"]) == (3, 1)
    assert report["errors"][0]["conversation_id"] == talks[2][0]["id"]
    assert len(rows_of(app, ada.user_id)["messages"]) == 5


def test_a_large_conversation_among_small_ones(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 5)
    talks = [whole(2), whole(12), whole(1), whole(2)]
    report = imported(ada, file_of(*(line for talk in talks for line in talk)))
    assert (report["conversations"]["imported"], report["messages"]["imported"]) == (4, 17)
    for talk in talks:
        assert path_in_tables(app, ada.user_id, talk[0]["id"]) == [line["id"] for line in talk[1:]]


def test_users_who_import_the_same_file_find_their_own(app: Flask, ada: Api, bob: Api) -> None:
    """On SQLite the numbers of their messages, which follow from the ids, are taken when the second one comes."""
    talk = whole(3)
    talk[2]["content"] = "A vampire squid"
    for user in (ada, bob):
        assert imported(user, file_of(*talk))["errors"] == []
        assert found(user, "squid") == ["A vampire squid"]
    require_whole_index(app)
    assert ada.delete(f"/chat/conversations/{talk[0]['id']}").status_code == 204
    assert found(ada, "squid") == []
    assert found(bob, "squid") == ["A vampire squid"]
    require_whole_index(app)
