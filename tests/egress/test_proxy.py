"""OUTGOING_PROXY: all calls go through it, and what the gate promises holds as far as it can be known."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_api.egress.addresses import Origin
from chat_api.egress.cancellation import CancelToken
from chat_api.egress.errors import Blocked, Cancelled, EgressError, Failed, TimedOut, Unreachable
from chat_api.egress.gate import Gate
from chat_api.egress.proxy import Proxy as ProxySettings
from chat_api.llm.request import ChatMessage, ChatRequest
from tests.egress.conftest import GateMaker, resolving
from tests.support.asking import Asking, text_of
from tests.support.provider import Reply, ScriptedProvider, openai_stream
from tests.support.proxy import Proxy

HELLO = "Hello from the provider."


def asking_through(gate: Gate, url: str) -> Asking:
    return Asking(gate, url, "openai")


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the provider's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture
def proxy(tls_provider: ScriptedProvider) -> Iterator[Proxy]:
    """A proxy that knows where api.example.com is, which nobody else does."""
    with Proxy({"api.example.com": ("127.0.0.1", tls_provider.port)}, "ada:s p@ss/word") as running:
        yield running


@pytest.mark.usefixtures("trusting")
def test_encrypted_call_goes_through_a_tunnel(
    make_gate: GateMaker, proxy: Proxy, tls_provider: ScriptedProvider, names: list[str]
) -> None:
    ask = asking_through(make_gate(proxy=proxy.url, resolver=resolving()), "https://api.example.com/v1")
    for _ in range(2):
        assert text_of(ask.events()) == HELLO
    assert [(method, target) for method, target, _ in proxy.requests] == [("CONNECT", "api.example.com:443")]
    assert names == ["api.example.com"]  # TLS is the provider's, not the proxy's
    assert "proxy-authorization" not in tls_provider.last.headers
    assert tls_provider.last.headers["host"] == "api.example.com"
    assert ask.endpoint.api_key not in str(proxy.requests)


@pytest.mark.usefixtures("trusting")
def test_certificate_is_checked_behind_a_proxy(
    make_gate: GateMaker, proxy: Proxy, tls_provider: ScriptedProvider
) -> None:
    proxy._names["other.example.com"] = ("127.0.0.1", tls_provider.port)
    error = asking_through(make_gate(proxy=proxy.url), "https://other.example.com/v1").error()
    assert isinstance(error, Unreachable)
    assert not tls_provider.requests


def test_unencrypted_call_names_the_whole_url(
    make_gate: GateMaker, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of origins that are allowed; the proxy forwards it, and keeps its credentials to itself."""
    with Proxy({"model.internal": ("127.0.0.1", provider.port)}, "ada:secret") as proxy:
        gate = make_gate(("http://model.internal:11434",), proxy=proxy.url)
        ask = asking_through(gate, "http://model.internal:11434/v1?a=b")
        assert text_of(ask.events()) == HELLO
        method, target, headers = proxy.requests[-1]
    assert (method, target) == ("POST", "http://model.internal:11434/v1/chat/completions?a=b")
    assert headers["host"] == "model.internal:11434"
    assert provider.last.path == "/v1/chat/completions?a=b"
    assert "proxy-authorization" not in provider.last.headers


@pytest.mark.parametrize(
    "url",
    ["https://10.0.0.1/v1", "https://[::1]/v1", "https://127.1/v1", "https://0x7f.1/v1", "https://localhost/v1",
     "https://169.254.169.254/v1", "http://api.example.com/v1"],
)  # fmt: skip
def test_what_a_url_says_is_checked_before_the_proxy_hears_of_it(
    make_gate: GateMaker, proxy: Proxy, url: str
) -> None:
    assert isinstance(asking_through(make_gate(proxy=proxy.url), url).error(), Blocked)
    assert not proxy.requests


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refused_credentials_are_the_operators_business(
    make_gate: GateMaker, proxy: Proxy, scheme: str
) -> None:
    wrong = proxy.url.replace("ada:", "bob:")
    gate = make_gate((f"{scheme}://api.example.com:8443",), proxy=wrong)
    error = asking_through(gate, f"{scheme}://api.example.com:8443/v1").error()
    assert isinstance(error, Unreachable)
    assert "credentials (407)" in error.detail
    assert "bob" not in error.detail
    assert "word" not in error.detail


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Blocked, "does not allow calls"),
        (b"HTTP/1.1 502 Bad Gateway\r\nVia: 10.1.2.3\r\n\r\n", Unreachable, "could not reach the provider (502)"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Unreachable, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", Unreachable, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", Unreachable, "outgoing proxy"),
        (b"", Unreachable, "broke"),
    ],
)  # fmt: skip
def test_proxy_that_opens_no_tunnel(
    make_gate: GateMaker, answer: bytes, kind: type[EgressError], words: str
) -> None:
    with Proxy(answer=answer) as proxy:
        error = asking_through(make_gate(proxy=proxy.url), "https://api.example.com/v1").error()
    assert type(error) is kind
    assert words in error.detail
    assert "10.1.2.3" not in error.detail


def test_proxy_that_is_not_there(make_gate: GateMaker) -> None:
    with Proxy() as proxy:
        url = proxy.url
    error = asking_through(make_gate(proxy=url), "https://api.example.com/v1").error()
    assert isinstance(error, Unreachable)
    assert error.detail == "The outgoing proxy could not be reached: connection refused."


def test_silent_proxy_is_given_up_and_can_be_cancelled(
    make_gate: GateMaker, provider: ScriptedProvider
) -> None:
    """It has as long as connecting may take."""
    heard = threading.Event()

    class Silent(Proxy):
        def _refusal(self, headers: object) -> bytes | None:
            heard.set()
            time.sleep(20)
            return b""

    with Silent() as proxy:
        ask = Asking(make_gate(proxy=proxy.url), "https://api.example.com/v1", "openai", connect_s=0.5)
        error = ask.error()
        assert isinstance(error, TimedOut)
        assert "outgoing proxy" in error.detail
        heard.clear()
        ask = Asking(make_gate(proxy=proxy.url), "https://api.example.com/v1", "openai", connect_s=15)
        token = CancelToken()

        def cancel() -> None:
            heard.wait(10)
            token.cancel()

        threading.Thread(target=cancel, daemon=True).start()
        begin = time.monotonic()
        with pytest.raises(Cancelled):
            list(ask.client.stream(ask.endpoint, ChatRequest("m", (ChatMessage("user", "x"),)), token))
        assert time.monotonic() - begin < 10


def test_answer_of_the_proxy_instead_of_the_provider_is_an_error(make_gate: GateMaker) -> None:
    with Proxy(answer=b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as proxy:
        gate = make_gate(("http://model.internal:80",), proxy=proxy.url)
        error = asking_through(gate, "http://model.internal/v1").error()
    assert isinstance(error, Failed)


@pytest.mark.parametrize(
    ("url", "origin", "authorization"),
    [
        ("http://proxy.example:3128", Origin("http", "proxy.example", 3128), None),
        ("http://proxy.example:3128/", Origin("http", "proxy.example", 3128), None),
        ("http://[fd00::1]:3128", Origin("http", "fd00::1", 3128), None),
        ("http://a%40b:c%3Ad@p:1", Origin("http", "p", 1), "Basic YUBiOmM6ZA=="),
        ("http://token@p:1", Origin("http", "p", 1), "Basic dG9rZW46"),
    ],
)
def test_url_of_a_proxy(url: str, origin: Origin, authorization: str | None) -> None:
    proxy = ProxySettings.of_url(url)
    assert (proxy.origin, proxy.authorization) == (origin, authorization)
    assert "Basic" not in repr(proxy)


@pytest.mark.usefixtures("trusting")
def test_broken_connection_that_was_kept_is_tried_once_more(
    make_gate: GateMaker, proxy: Proxy, tls_provider: ScriptedProvider
) -> None:
    tls_provider.script(Reply(*openai_stream("one").steps), openai_stream("two"))
    ask = asking_through(make_gate(proxy=proxy.url), "https://api.example.com/v1")
    assert text_of(ask.events()) == "one"
    tls_provider.drop_idle_connections()
    time.sleep(0.1)
    assert text_of(ask.events()) == "two"
    assert len(proxy.requests) == 2
