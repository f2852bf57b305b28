"""What many programs for OpenAI's API do, each in its own words: one question, a chat, tools, a picture, a form.

With both of its APIs: chat completions and responses.
"""

import re
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from textwrap import dedent
from typing import Any

import pytest

from tests.e2e.account import Account
from tests.e2e.clients_of_openai import CHAT, RESPONSES, Driver, Program, driving, python
from tests.e2e.llama import LlamaServer
from tests.e2e.node import TIMEOUT_S
from tests.support.provider import BREAK, ScriptedProvider, error_answer, openai_stream
from tests.support.server import REPOSITORY, GunicornServer

# the first test installs everything, which takes a minute
pytestmark = pytest.mark.timeout(TIMEOUT_S)

OPENAI = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    502: "InternalServerError",
}
AI_SDK = dict.fromkeys(OPENAI, "AI_APICallError")
PYDANTIC_AI = dict.fromkeys(OPENAI, "ModelHTTPError")
BOTH = (CHAT, RESPONSES)
PROGRAMS = [
    Program("openai for Python", "with_openai.py", OPENAI, BOTH),
    Program("openai for Node.js", "with_openai.mjs", OPENAI, BOTH),
    Program("@ai-sdk/openai", "with_ai_sdk.mjs", AI_SDK, BOTH, environment={"PROVIDER": "@ai-sdk/openai"}),
    Program(
        "@ai-sdk/openai-compatible",
        "with_ai_sdk.mjs",
        AI_SDK,
        environment={"PROVIDER": "@ai-sdk/openai-compatible"},
    ),
    Program("LangChain for Python", "with_langchain.py", OPENAI, BOTH),
    Program("LangChain for Node.js", "with_langchain.mjs", OPENAI, BOTH),
    Program("pydantic-ai", "with_pydantic_ai.py", PYDANTIC_AI, BOTH),
    Program("openai-agents", "with_openai_agents.py", OPENAI, BOTH),
    Program("LiteLLM's SDK", "with_litellm.py", {**OPENAI, 502: "BadGatewayError"}, BOTH),
    Program("llm", "with_llm.py", dict.fromkeys(OPENAI, "Failed"), BOTH, unstored=(RESPONSES,)),
]
WAYS = [(program, api, stream) for program in PROGRAMS for api in program.apis for stream in program.streams]
CALLS = [("call_1", "get_weather", '{"city": "Lisbon"}'), ("call_2", "get_weather", '{"city": "Porto"}')]
RESULTS = ["Lisbon: 28 degrees", "Porto: 28 degrees"]
# what the provider answers, and the status that clients get
FAILURES = (
    (error_answer(400, "out of words"), 400),
    (error_answer(401, "out of words"), 502),
    (error_answer(429, "out of words"), 429),
    (error_answer(503, "out of words"), 502),
)
DOT = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="
)
FILLED = {"city": "Lisbon", "degrees": 28}


class Way:
    """A client with one user, and how it works: with which API, streamed or not."""

    def __init__(self, driver: Driver, program: Program, me: Account, how: dict[str, Any]) -> None:
        self._driver, self.program, self.me, self._how = driver, program, me, how

    @property
    def streams(self) -> bool:
        return bool(self._how["stream"])

    @property
    def api(self) -> str:
        return str(self._how["api"])

    @property
    def stores(self) -> bool:
        return self.api not in self.program.unstored

    def stored(self, field: str) -> list[str]:
        """A field of all messages of the conversation."""
        return [message[field] for message in self.me.messages()]

    def new_text(self) -> str:
        """What nobody has said: the same words again would be the same conversation."""
        return f"What of {self.me.model}?"

    def get(self, do: str, **order: Any) -> Any:
        return self._driver.get(do, self.me, **self._how, **order)

    def order(self, do: str, **order: Any) -> dict[str, Any]:
        return self._driver.order(do, self.me, **self._how, **order)


@pytest.fixture(scope="module")
def drivers() -> Iterator[Callable[[Program], Driver]]:
    """Starts the driver of a client, once."""
    with ExitStack() as stack:
        yield cache(lambda program: stack.enter_context(driving(program)))


@pytest.fixture(
    params=WAYS, ids=[f"{one.name}, {api}, {'streamed' if stream else 'whole'}" for one, api, stream in WAYS]
)
def how(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def account(service: GunicornServer) -> Iterator[Account]:
    with ScriptedProvider() as provider:
        yield Account(service, provider)


@pytest.fixture
def way(how: Any, drivers: Callable[[Program], Driver], account: Account) -> Way:
    program, api, stream = how
    account.begin_again()
    return Way(drivers(program), program, account, {"api": api, "stream": stream})


def test_a_question(way: Way) -> None:
    way.me.script(openai_stream("Grüß", " dich 👋"))
    assert way.get("ask", text="Hi") == "Grüß dich 👋"
    assert way.stored("content") == (["Hi", "Grüß dich 👋"] if way.stores else [])


def test_a_chat_is_one_conversation(way: Way) -> None:
    way.me.script(openai_stream("One."), openai_stream("Two."), openai_stream("Three."))
    first = way.new_text()
    assert way.get("talk", texts=[first, "Second?", "Third?"]) == ["One.", "Two.", "Three."]
    said = [first, "One.", "Second?", "Two.", "Third?", "Three."]
    assert way.stored("content") == (said if way.stores else [])
    assert [message["content"] for message in way.me.sent()[-1]["messages"]] == said[:-1]


def test_tools_are_called_at_once_and_it_is_one_conversation(way: Way) -> None:
    way.me.script(openai_stream(tool_calls=CALLS, finish="tool_calls"), openai_stream("Sunny."))
    asked = way.new_text()
    assert way.get("use_tools", text=asked) == "Sunny."
    roles = ["user", "assistant", "tool", "tool", "assistant"]
    assert way.stored("role") == (roles if way.stores else [])
    question, calls, *results = way.me.sent()[-1]["messages"]
    assert question["content"] == asked
    assert [(call["id"], call["function"]["name"]) for call in calls["tool_calls"]] == [
        (id_, name) for id_, name, _ in CALLS
    ]
    assert [(result["tool_call_id"], result["content"]) for result in results] == [
        (id_, content) for (id_, *_), content in zip(CALLS, RESULTS, strict=True)
    ]


def test_a_form_is_filled(way: Way) -> None:
    way.me.script(openai_stream('{"city": "Lis', 'bon", "degrees": 28}'))
    assert way.get("fill", text="Lisbon?") == FILLED
    form = way.me.sent()[-1]["response_format"]
    assert form["type"] == "json_schema"
    assert set(form["json_schema"]["schema"]["properties"]) == {"city", "degrees"}


def test_a_picture_reaches_the_model(way: Way) -> None:
    way.me.script(openai_stream("A dot."))
    asked, image = way.new_text(), f"data:image/png;base64,{b64encode(DOT).decode()}"
    assert way.get("look", text=asked, image=image) == "A dot."
    [question] = way.me.sent()[-1]["messages"]
    assert [part["image_url"]["url"] for part in question["content"] if part["type"] == "image_url"] == [
        image
    ]


def test_failures_are_the_exceptions_that_users_expect(way: Way) -> None:
    # `llm` starts anew for each question, and tries three times
    for answer, status in FAILURES if way.program.name != "llm" else FAILURES[:1]:
        way.me.script(answer)
        failed = way.order("ask", text="Hi")
        assert way.program.raises[status] in failed.get("raised", ()), failed
        assert failed["status"] in {status, None}
        assert "out of words" in failed["message"]
    refused = way.order("ask", text="Hi", key="chat_pat_nonsense")
    assert way.program.raises[401] in refused.get("raised", ()), refused
    if way.streams:
        way.me.script(openai_stream("So far", BREAK))
        assert "raised" in way.order("ask", text="Hi")


@pytest.mark.parametrize("page", ["README.md", "docs/openai.md"])
def test_the_lines_of_the_documents_print_a_reply(
    page: str, service: GunicornServer, provider: ScriptedProvider
) -> None:
    me = Account(service, provider, name="Echo")
    blocks = re.findall(
        r"^ *```python\n(.*?)^ *```", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        lines = dedent(block).replace("http://127.0.0.1:8000/v1", me.base_url).replace("chat_pat_…", me.key)
        done = subprocess.run([python(), "-c", lines], capture_output=True, text=True)
        assert "Hello from the provider." in done.stdout, done.stderr


# -- with a real provider -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_account(service: GunicornServer, llama: LlamaServer) -> Account:
    return Account(service, llama)


@pytest.fixture
def real(how: Any, drivers: Callable[[Program], Driver], real_account: Account) -> Way:
    program, api, stream = how
    return Way(drivers(program), program, real_account, {"api": api, "stream": stream})


def test_a_real_model_answers_and_fills_a_form(real: Way, llama: LlamaServer) -> None:
    if (
        real.api == CHAT
    ):  # some clients take a response for a failure that is cut, and the model never ends by itself
        text = real.get("ask", text="Hi", limit=24)
        directly = llama.say([{"role": "user", "content": "Hi"}], max_tokens=24)
        assert text.strip() == directly.replace("\x00", "\ufffd").strip()
    filled = real.get("fill", text="Lisbon?")
    assert (filled["city"] in {"Lisbon", "Porto"}, filled["degrees"] in {27, 28}) == (True, True)
