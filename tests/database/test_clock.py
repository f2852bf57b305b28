"""A clock that steps back shuffles nothing: ids and times of one process keep their order."""

import threading
import time
import uuid
from datetime import timedelta

import pytest
import uuid_utils
from flask import Flask

from chat_api.database import columns
from chat_api.database.columns import new_id, now, ordered_now
from chat_api.search_index.lexemes import number_of
from tests.support.api import Api


def step_back(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the clock of this process back, as far as the service can see it."""

    def earlier_id() -> uuid.UUID:
        made = uuid.UUID(str(real_id()))
        return uuid.UUID(int=made.int - (int(seconds * 1000) << 80))

    real_now, real_id = now, uuid_utils.uuid7
    patch.setattr(columns, "now", lambda: real_now() - timedelta(seconds=seconds))
    patch.setattr(uuid_utils, "uuid7", earlier_id)


@pytest.fixture(autouse=True)
def _forget_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns._Latest, "tick", 0)


def test_ids_of_a_process_ascend_however_its_clock_steps() -> None:
    ids = [new_id() for _ in range(1000)]
    with pytest.MonkeyPatch.context() as patch:
        step_back(patch, 3600)
        ids += [new_id() for _ in range(1000)]
    ids += [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {(uuid.UUID(id_).version, uuid.UUID(id_).variant) for id_ in ids} == {(7, uuid.RFC_4122)}


def test_the_full_text_index_of_sqlite_has_the_order_of_ids() -> None:
    """Also of those of one millisecond: the newest messages are found first."""
    numbers = [number_of(new_id()) for _ in range(10_000)]
    assert numbers == sorted(set(numbers))


def test_ids_and_times_of_many_threads_are_all_different() -> None:
    made: list[object] = []

    def make() -> None:
        made.extend([new_id() for _ in range(500)] + [ordered_now() for _ in range(500)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8 * 1000


def test_the_list_stays_newest_first_while_the_clock_steps_back(app: Flask, ada: Api) -> None:
    def begin(title: str) -> str:
        made = ada.post("/chat/conversations", {"user_id": ada.user["id"], "title": title})
        assert made.status_code == 201
        return str(made.get_json()["id"])

    def use(conversation_id: str) -> None:
        body = {"conversation_id": conversation_id, "role": "user", "content": "Hello"}
        assert ada.post("/chat/messages", body).status_code == 201

    def listed() -> list[str]:
        return [conversation["title"] for conversation in ada.get("/chat/conversations").get_json()]

    old, new = begin("old"), begin("new")
    use(new)
    with pytest.MonkeyPatch.context() as patch:
        step_back(patch, 3600)
        begin("newest")
        assert listed() == ["newest", "new", "old"]
        use(old)
        assert listed() == ["old", "newest", "new"]
        use(new)
        assert listed() == ["new", "old", "newest"]
        for path in (f"/chat/conversations/{new}/messages",):
            assert [message["position"] for message in ada.get(path).get_json()] == [1, 2]


def test_a_conversation_is_never_used_earlier_than_before(app: Flask, ada: Api) -> None:
    """As by another process, whose clock is behind."""
    made = ada.post("/chat/conversations", {"user_id": ada.user["id"], "title": "Two clocks"}).get_json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns._Latest, "moment", now() - timedelta(hours=2))
        step_back(patch, 3600)
        body = {"conversation_id": made["id"], "role": "user", "content": "Hello"}
        assert ada.post("/chat/messages", body).status_code == 201
    assert ada.get(f"/chat/conversations/{made['id']}").get_json()["updated_at"] == made["updated_at"]
    time.sleep(0.001)
    assert ada.post("/chat/messages", body).status_code == 201
    assert ada.get(f"/chat/conversations/{made['id']}").get_json()["updated_at"] > made["updated_at"]
