"""What is done after the commit can't change the response: each step of it fails here, one after the other."""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response

from chat_api.database.session import Session
from chat_api.server import slots
from chat_api.telemetry import metrics, request_log
from chat_api.web.application import Request
from tests.support.api import Api

Patch = pytest.MonkeyPatch


def fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError(28, "No space left on device")


class FailingHandler(logging.Handler):
    handle = fail


class FullDisk:
    """A standard output that takes nothing."""

    write = flush = fail

    @property
    def buffer(self) -> "FullDisk":
        return self


def break_counting(app: Flask, patch: Patch) -> None:
    patch.setattr(metrics, "count", fail)


def break_request_log(app: Flask, patch: Patch) -> None:
    patch.setattr(request_log.log, "isEnabledFor", fail)


def break_output(app: Flask, patch: Patch) -> None:
    patch.setattr(request_log.log, "isEnabledFor", lambda level: True)
    patch.setattr(sys, "stdout", FullDisk())


def break_logging(app: Flask, patch: Patch) -> None:
    """The first step fails, and saying so fails as well."""
    patch.setattr(metrics, "count", fail)
    patch.setattr(logging.getLogger("chat_api"), "handlers", [FailingHandler()])


def break_hook(app: Flask, patch: Patch) -> None:
    """The first hook that runs; those before it in order of registration follow it."""
    patch.setitem(app.after_request_funcs, None, [*app.after_request_funcs[None], fail])


def break_request_teardown(app: Flask, patch: Patch) -> None:
    patch.setitem(app.teardown_request_funcs, None, [fail])


def break_context_teardown(app: Flask, patch: Patch) -> None:
    patch.setattr(app, "teardown_appcontext_funcs", [*app.teardown_appcontext_funcs, fail])


def break_session(app: Flask, patch: Patch) -> None:
    """The session is closed, and what follows that in the teardown fails."""
    close = Session.close

    def close_and_fail(session: Session) -> None:
        close(session)
        fail()

    patch.setattr(Session, "close", close_and_fail)


def break_slots(app: Flask, patch: Patch) -> None:
    patch.setattr(slots.Slots, "_give_back", fail)


def break_request_end(app: Flask, patch: Patch) -> None:
    patch.setattr(Request.__mro__[1], "close", fail)


STEPS: list[Callable[[Flask, Patch], None]] = [
    break_counting,
    break_request_log,
    break_output,
    break_logging,
    break_hook,
    break_request_teardown,
    break_context_teardown,
    break_session,
    break_slots,
    break_request_end,
]


@pytest.fixture
def conversation_id(ada: Api) -> str:
    made = ada.post("/chat/conversations", {"user_id": ada.user["id"], "title": "After the commit"})
    return made.get_json()["id"]


@pytest.mark.parametrize("break_step", STEPS)
def test_a_step_after_the_commit_that_fails_changes_no_response(
    app: Flask, ada: Api, conversation_id: str, break_step: Callable[[Flask, Patch], None]
) -> None:
    body = {"conversation_id": conversation_id, "role": "user", "content": "Stored and acknowledged."}
    with pytest.MonkeyPatch.context() as patch:
        break_step(app, patch)
        answer = ada.post("/chat/messages", body)
        assert answer.status_code == 201
        assert answer.headers["X-Request-ID"]
    listed = ada.get(f"/chat/conversations/{conversation_id}/messages").get_json()
    assert [message["id"] for message in listed] == [answer.get_json()["id"]]


def test_every_function_to_be_called_when_a_response_closes_is_called(app: Flask) -> None:
    called: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"part"])

        def close(self) -> None:
            called.append("body")
            fail()

    response: Response = app.response_class(Body())
    response.call_on_close(fail)
    response.call_on_close(lambda: called.append("slot"))
    response.close()
    assert called == ["body", "slot"]


def test_an_error_before_the_response_is_still_reported(app: Flask, ada: Api) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "commit", fail)
        patch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
        answer = ada.post("/chat/conversations", {"user_id": ada.user["id"], "title": "Not stored"})
    assert answer.status_code == 500


def test_the_slot_of_a_running_request_is_released_with_best_effort() -> None:
    taken = slots.Slots(1, full="full").take()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots.Slots, "_give_back", fail)
        taken.release()
