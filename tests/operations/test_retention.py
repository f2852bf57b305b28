"""`flask retention`: conversations that nobody used for long go, a few at a time; pinned ones stay."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from chat_api.completions.models import Completion
from chat_api.conversations.models import Conversation
from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.operations import retention
from tests.support import alone
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.provider import ScriptedProvider
from tests.support.tables import begin_elsewhere, owned_rows

ada, app, bob = alone.ada, alone.app, alone.bob  # the fixtures here

DAYS = 30


@pytest.fixture(autouse=True)
def _days(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "RETENTION_DAYS", DAYS)


def run(app: Flask, *options: str) -> Result:
    return run_flask(lambda: app, "retention", *options)


def grow_old(app: Flask, user: Api, conversation_id: str, days: float) -> None:
    """Let a conversation be last used so many days ago."""
    own = (Conversation.user_id == user.user_id, Conversation.id == conversation_id)
    with app.app_context():
        db.session.execute(
            sa.update(Conversation).where(*own).values(updated_at=now() - timedelta(days=days))
        )
        db.session.commit()


def conversation(app: Flask, user: Api, *, days: float, messages: int = 1, **changes: bool) -> str:
    made: str = user.conversation()["id"]
    for _ in range(messages):
        user.message(made)
    if changes:
        assert user.patch(f"/chat/conversations/{made}", changes).status_code == 200
    grow_old(app, user, made, days)
    return made


def there(user: Api, *conversation_ids: str) -> list[bool]:
    return [user.get(f"/chat/conversations/{id}").status_code == 200 for id in conversation_ids]


def test_old_conversations_go_and_the_others_stay(app: Flask, ada: Api, bob: Api) -> None:
    old = [conversation(app, ada, days=DAYS + 1), conversation(app, bob, days=DAYS + 0.01, archived=True)]
    young = conversation(app, ada, days=DAYS - 0.01, archived=True)
    pinned = conversation(app, ada, days=10 * DAYS, pinned=True)
    assert run(app).exit_code == 0
    assert there(ada, old[0], young, pinned) + there(bob, old[1]) == [False, True, True, False]


def test_all_that_hangs_on_them_goes_along(app: Flask, ada: Api, provider: ScriptedProvider) -> None:
    before = owned_rows(app, ada.user_id)
    old = conversation(app, ada, days=DAYS + 1)
    provider_id = ada.provider(api_endpoint=provider.url)["id"]
    ada.config(provider_id)
    ada.attachment(ada.completion(old, provider_id)["message"]["id"])
    grow_old(app, ada, old, DAYS + 1)
    assert run(app).exit_code == 0
    left = {"llm_providers": 1, "user_llm_configs": 1}
    assert owned_rows(app, ada.user_id) == before | left


def test_dry_run_lists_what_would_be_deleted_and_deletes_nothing(app: Flask, ada: Api) -> None:
    old = [conversation(app, ada, days=DAYS + days, messages=days) for days in (1, 2)]
    kept = conversation(app, ada, days=1), conversation(app, ada, days=DAYS + 1, pinned=True)
    listed = run(app, "--dry-run").output
    assert there(ada, *old, *kept) == [True] * 4
    lines = [line for line in listed.splitlines() if ada.user_id in line]
    assert [line.split()[0] for line in lines] == old[::-1]  # oldest first
    assert [line.rpartition(" ")[2] for line in lines] == ["2", "1"]
    assert "Would delete" in listed
    assert "A conversation" not in listed  # titles are nobody's business but their owner's


def test_what_dry_run_lists_is_what_is_deleted(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CONVERSATIONS_AT_ONCE", 3)
    old = [conversation(app, ada, days=DAYS + 1, messages=messages) for messages in (0, 1, 5, 2, 1, 0, 3)]
    listed = run(app, "--dry-run").output
    assert {line.split()[0] for line in listed.splitlines() if ada.user_id in line} == set(old)
    assert there(ada, *old) == [True] * 7
    assert run(app).exit_code == 0
    assert there(ada, *old) == [False] * 7


def test_one_that_is_used_or_pinned_meanwhile_stays(app: Flask, ada: Api) -> None:
    """What a dry run listed is checked again when it is deleted."""
    used, pinned = (conversation(app, ada, days=DAYS + 1) for _ in range(2))
    assert run(app, "--dry-run").output.count(ada.user_id) == 2
    ada.message(used)
    ada.patch(f"/chat/conversations/{pinned}", {"pinned": True})
    assert run(app).exit_code == 0
    assert there(ada, used, pinned) == [True, True]


def test_one_with_a_reply_in_progress_stays(app: Flask, ada: Api) -> None:
    """A reply to its last message moves the time of its last use only when it ends."""
    answered, other = (conversation(app, ada, days=DAYS + 1) for _ in range(2))
    message = ada.get(f"/chat/conversations/{answered}/messages").get_json()[0]
    begin_elsewhere(app, ada.user_id, message, ada.provider()["id"])
    assert answered not in run(app, "--dry-run").output
    assert run(app).exit_code == 0
    assert there(ada, answered, other) == [True, False]


def test_one_for_which_a_reply_begins_while_retention_waits_stays(app: Flask, ada: Api) -> None:
    here = conversation(app, ada, days=DAYS + 1)
    message = ada.get(f"/chat/conversations/{here}/messages").get_json()[0]
    own = (Completion.user_id == ada.user_id, Completion.conversation_id == here)
    begin_elsewhere(app, ada.user_id, message, ada.provider()["id"])
    with app.app_context():
        db.session.execute(sa.update(Completion).where(*own).values(status="completed"))
        db.session.commit()
        with ThreadPoolExecutor(1) as pool:
            lock = sa.select(Conversation.id).where(Conversation.id == here).with_for_update()
            db.session.execute(lock)
            waiting = pool.submit(run, app)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
            db.session.execute(sa.update(Completion).where(*own).values(status="in_progress"))
            db.session.commit()
            assert waiting.result().exit_code == 0
    assert there(ada, here) == [True]


def test_without_days_nothing_is_ever_deleted(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = conversation(app, ada, days=36_500)
    monkeypatch.setitem(app.config, "RETENTION_DAYS", 0)
    for options in ((), ("--dry-run",)):
        result = run(app, *options)
        assert (result.exit_code, "RETENTION_DAYS" in result.output) == (1, True)
    assert there(ada, old) == [True]
