"""Whether a provider works: its address, the key, and a model, found out with one small request or a few."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError
from . import error_codes
from .addresses import operation_url
from .events import Corrected
from .protocols import protocol_of
from .request import ChatMessage, ChatRequest, Endpoint

if TYPE_CHECKING:
    from .client import Client

CHECK_S = 30.0  # for each of at most three requests: a client's request waits for them
MAX_TOKENS = 64  # of which only the first is waited for
NO_MODEL = "No model was tried: name one, or store a `default_model` with your key."
NO_KEY = "The provider needs a key, and none is stored; store one with POST /chat/user-llm-configs."

# which step a code belongs to; those before it work
STEP_OF = {
    error_codes.UNREACHABLE: "address",
    error_codes.BLOCKED: "address",
    error_codes.KEY_REFUSED: "key",
    error_codes.QUOTA_EXCEEDED: "key",
    error_codes.NOT_ALLOWED: "model",
    error_codes.MODEL_NOT_FOUND: "model",
    error_codes.CONTEXT_TOO_LONG: "model",
    error_codes.INVALID_REQUEST: "model",
    error_codes.RATE_LIMITED: "model",
    error_codes.OVERLOADED: "model",
}
STEPS = ("address", "key", "model")


@dataclass(slots=True)
class Step:
    """One of STEPS: whether it works, None where that is not known, and what is wrong."""

    ok: bool | None = None
    problem: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "problem": self.problem}


@dataclass(slots=True)
class Report:
    """What was found out."""

    url: str
    model: str | None
    steps: dict[str, Step] = field(default_factory=lambda: {name: Step() for name in STEPS})

    def works_up_to(self, step: str) -> None:
        """Note that a step and those before it work."""
        for name in STEPS[: STEPS.index(step) + 1]:
            self.steps[name].ok = True

    def fails_at(self, step: str, code: str, detail: str) -> None:
        """Note what is wrong with a step; those before it work."""
        if step != STEPS[0]:
            self.works_up_to(STEPS[STEPS.index(step) - 1])
        self.steps[step] = Step(False, {"code": code, "detail": detail})

    def to_json(self) -> dict[str, Any]:
        steps = {name: step.to_json() for name, step in self.steps.items()}
        return {
            "ok": all(step.ok for step in self.steps.values()),
            **steps,
            "model_id": self.model,
            "url": self.url,
        }


def check_provider(client: "Client", endpoint: Endpoint, model: str | None) -> Report:
    """Try a provider; without a model its list of models is requested. Raises nothing."""
    report = Report(operation_url(endpoint, protocol_of(endpoint).COMPLETIONS_PATH), model)
    if model is None:
        _check_list(client, endpoint, report)
    else:
        _check_model(client, endpoint, model, report)
    if not endpoint.api_key and (problem := report.steps["key"].problem):
        if problem["code"] == error_codes.KEY_REFUSED:
            problem["detail"] = NO_KEY
    return report


def _check_model(client: "Client", endpoint: Endpoint, model: str, report: Report) -> None:
    error = _error_of(lambda: _begin_reply(client, endpoint, model))
    if error is None:
        report.works_up_to("model")
        return
    step = STEP_OF.get(error.code)
    if (
        step is None
    ):  # silent, or an answer of an unknown kind: of an API, or of something else at this address?
        of_list = _error_of(lambda: client.list_models(endpoint))
        if of_list is not None and of_list.code == error_codes.KEY_REFUSED:
            step, error = "key", of_list
        else:
            step = "address" if of_list is not None else "model"
    report.fails_at(step, error.code, error.detail)
    if error.code in (error_codes.RATE_LIMITED, error_codes.OVERLOADED):
        report.steps["model"].ok = None  # it may work in a while


def _check_list(client: "Client", endpoint: Endpoint, report: Report) -> None:
    error = _error_of(lambda: client.list_models(endpoint))
    if error is not None:
        report.fails_at(STEP_OF.get(error.code, "address"), error.code, error.detail)
        if report.steps["model"].problem is not None:  # it is not the model's, as none was tried
            report.steps["key"] = replace(report.steps["model"], ok=None)
            report.steps["model"] = Step()
        return
    report.works_up_to("address")
    # a server that lists its models to everybody has not looked at the key
    is_open = endpoint.api_key and not _error_of(lambda: client.list_models(replace(endpoint, api_key="")))
    report.steps["key"].ok = None if is_open else True
    report.steps["model"].problem = {"code": "no_model", "detail": NO_MODEL}


def _begin_reply(client: "Client", endpoint: Endpoint, model: str) -> None:
    """Wait for the first event of a small reply, and end it there."""
    request = ChatRequest(model, (ChatMessage("user", "Say OK."),), {"max_tokens": MAX_TOKENS})
    reply = client.stream(endpoint, request, CancelToken())
    try:
        for events in reply:
            if not all(isinstance(event, Corrected) for event in events):
                return
    finally:
        reply.close()  # type: ignore[attr-defined]


def _error_of(call: Callable[[], object]) -> EgressError | None:
    try:
        call()
    except EgressError as error:
        return error
    return None
