"""Where calls may go: which addresses are public, what an operator opens, what is pinned."""

import ipaddress
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from chat_api.egress.addresses import is_own, is_public, parse
from chat_api.egress.cancellation import CancelToken
from chat_api.egress.errors import Blocked, EgressError, Failed, TimedOut, Unreachable
from chat_api.egress.gate import Gate, HttpRequest
from chat_api.egress.limits import Limits
from tests.egress.conftest import GateMaker, resolving
from tests.support.asking import KEY, Asking, AskingMaker, text_of
from tests.support.provider import Reply, ScriptedProvider, openai_stream

LIMITS = Limits(connect_s=1, first_byte_s=2, idle_s=2, total_s=5)


def get(gate: Gate, url: str) -> int:
    """Ask for a URL; returns the status."""
    response = gate.send(
        HttpRequest("GET", url, {"Accept": "*/*"}), cancel_token=CancelToken(), limits=LIMITS
    )
    response.read_all(10_000)
    response.close()
    return response.status


NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def own_addresses() -> list[str]:
    """The addresses of this machine's interfaces; some need an interface named to be reached."""
    kinds = (socket.AF_INET, socket.AF_INET6)
    found = [one.address for all in psutil.net_if_addrs().values() for one in all if one.family in kinds]
    return [address for address in found if "%" not in address]


@pytest.mark.parametrize("address", own_addresses())
def test_address_of_this_machine_is_not_called(
    make_gate: GateMaker, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert is_own(ipaddress.ip_address(address))
    # a machine for tests has no public address, so those that it has count as such
    monkeypatch.setattr("chat_api.egress.policy.is_public", lambda address: True)
    with pytest.raises(Blocked, match="this server's own"):
        get(make_gate(resolver=resolving("192.0.2.77", address)), "https://api.example.com/")


@pytest.mark.parametrize("address", ["1.1.1.1", "192.0.2.77", "2606:4700::1111"])
def test_address_of_another_machine_is_not_own(address: str) -> None:
    assert not is_own(ipaddress.ip_address(address))


def test_own_port_is_not_called_even_where_loopback_is_allowed(
    make_gate: GateMaker, provider: ScriptedProvider
) -> None:
    port = urlsplit(provider.url).port
    with pytest.raises(Blocked, match="this server's own"):
        get(make_gate(allow_loopback=True, own_port=port), provider.url)
    provider.script(Reply(b"ok"))
    assert get(make_gate((provider.url,), True, own_port=port), provider.url) == 200


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_name_that_leads_to_such_an_address_is_not_called(make_gate: GateMaker, address: str) -> None:
    gate = make_gate(resolver=resolving("1.1.1.1", address))  # one of several is enough
    with pytest.raises(Blocked):
        get(gate, "https://api.example.com/")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::127.0.0.1]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "10.1",
        "192.168.257",
        "0xA9.254.0xa9fe",
        "168.63.129.16",
    ],
)
def test_odd_form_of_a_private_address_is_not_called(make_gate: GateMaker, host: str) -> None:
    """The system's own resolver reads the odd ones."""
    with pytest.raises(EgressError, match=r"is not public|its name could not be resolved"):
        get(make_gate(), f"https://{host}:1/")


@pytest.mark.parametrize(
    "url",
    [
        "http://1.1.1.1/",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "https:///path",
        "https://user:secret@1.1.1.1/",
        "https://1.1.1.1\\@10.0.0.1/",
        "https://1.1.1.1#@10.0.0.1/",
        "https://api.example.com:99999/",
        "https://api.example.com:0/",
        "https://api.example.com:+80/",
        "https://api.ex%61mple.com/",
        "https://[fe80::1%25eth0]/",
        "https://api.example.com/a b",
        "https://api.example.com/\r\nX: y",
        "https://ⓛocalhost/",
        "https://１２７.0.0.1/",
        "",
    ],
)
def test_url_is_refused_before_anything_is_looked_up(make_gate: GateMaker, url: str) -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    with pytest.raises(Blocked):
        get(make_gate(resolver=resolver), url)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("HTTPS://API.example.com", ("https", "api.example.com", 443), "/"),
        ("https://api.example.com?a=b", ("https", "api.example.com", 443), "/?a=b"),
        ("http://[::1]:8080/v1", ("http", "::1", 8080), "/v1"),
    ],
)
def test_url_is_read(url: str, origin: tuple[str, str, int], target: str) -> None:
    found, found_target = parse(url)
    assert ((found.scheme, found.host, found.port), found_target) == (origin, target)


def test_caller_is_told_when_all_is_sent_and_before_anything_comes_back(make_gate: GateMaker) -> None:
    sent = threading.Event()

    def answer_when_told(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            if sent.wait(5):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_when_told, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        gate = make_gate(allow_loopback=True)
        request = HttpRequest("GET", url, {"Accept": "*/*"})
        response = gate.send(request, cancel_token=CancelToken(), limits=LIMITS, on_sent=sent.set)
        assert response.status == 200
        response.close()
        thread.join()


def test_loopback_is_closed_by_default(make_gate: GateMaker, provider: ScriptedProvider) -> None:
    for url in (f"http://127.0.0.1:{provider.port}/", f"https://127.0.0.1:{provider.port}/"):
        with pytest.raises(Blocked):
            get(make_gate(), url)
    assert provider.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433"])
def test_loopback_is_open_in_development(make_gate: GateMaker, provider: ScriptedProvider, host: str) -> None:
    # localhost may mean ::1 first, where nobody listens: the next address is tried
    assert get(make_gate(allow_loopback=True), f"http://{host}:{provider.port}/models") == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"])
def test_development_opens_nothing_else(make_gate: GateMaker, address: str) -> None:
    gate = make_gate(allow_loopback=True, resolver=resolving("127.0.0.1", address))
    for scheme in ("http", "https"):
        with pytest.raises(Blocked):
            get(gate, f"{scheme}://inside.example.com/")


def test_development_sends_no_key_in_the_clear_to_others(make_gate: GateMaker) -> None:
    with pytest.raises(Blocked, match="not https"):
        get(make_gate(allow_loopback=True, resolver=resolving("1.1.1.1")), "http://api.example.com/")


def test_allowed_origin_is_open_and_no_other(make_gate: GateMaker, provider: ScriptedProvider) -> None:
    gate = make_gate((f"http://LOCALHOST:{provider.port}",))
    assert get(gate, f"http://localhost:{provider.port}/models") == 200
    for url in (
        f"http://127.0.0.1:{provider.port}/models",
        f"http://localhost:{provider.port + 1}/models",
        f"https://localhost:{provider.port}/models",
        f"http://localhost.:{provider.port}/models",
    ):
        with pytest.raises(Blocked):
            get(gate, url)
    assert provider.connections == 1


def test_name_that_changes_its_address_is_called_where_it_was_checked(
    make_gate: GateMaker, provider: ScriptedProvider
) -> None:
    """The first answer passes the check, all later ones would lead elsewhere: nobody may ask again."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]])
    lookups = []

    def resolver(host: str, port: int) -> list[str]:
        lookups.append(host)
        return next(answers)

    gate = make_gate(allow_loopback=True, resolver=resolver)
    assert get(gate, f"http://rebinding.example.com:{provider.port}/models") == 200
    assert lookups == ["rebinding.example.com"]
    provider.drop_idle_connections()
    with pytest.raises(Blocked):  # a new connection is checked anew
        get(gate, f"http://rebinding.example.com:{provider.port}/models")


def test_redirect_is_not_followed(asking: AskingMaker, provider: ScriptedProvider) -> None:
    with ScriptedProvider() as other:
        for status in (301, 302, 303, 307, 308):
            provider.script(Reply(status=status, headers={"Location": f"{other.url}/chat/completions"}))
            error = asking().error()
            assert isinstance(error, Failed)
            assert "redirects are not followed" in error.detail
        assert not other.requests


def test_proxies_of_the_environment_are_not_used(
    make_gate: GateMaker, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedProvider() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        monkeypatch.setenv("NO_PROXY", "")
        assert get(make_gate(allow_loopback=True), f"{provider.url}/models") == 200
        assert (proxy.connections, provider.connections) == (0, 1)


def test_environment_adds_no_header(
    make_gate: GateMaker, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.netrc and its like are none of ours: only what the caller passed is sent."""
    assert get(make_gate(allow_loopback=True), f"{provider.url}/models") == 200
    assert set(provider.last.headers) == {"host", "user-agent", "accept-encoding", "accept"}


@pytest.mark.parametrize("key", ["a\r\nX-Injected: 1", "a\nb", "clé", "a\x00"])
def test_key_that_no_header_can_hold_is_not_sent(gate: Gate, provider: ScriptedProvider, key: str) -> None:
    ask = Asking(gate, provider.url, "openai")
    ask.endpoint = type(ask.endpoint)("openai", provider.url, key)
    error = ask.error()
    assert isinstance(error, Failed)
    assert key not in error.detail
    assert not provider.requests


# -- names --------------------------------------------------------------------------------------------------


def test_name_that_nobody_knows_is_unreachable(make_gate: GateMaker) -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(Unreachable, match="name could not be resolved"):
        get(make_gate(resolver=resolver), "https://nowhere.example.com/")
    with pytest.raises(Unreachable, match="has no address"):
        get(make_gate(resolver=resolving()), "https://nowhere.example.com/")


def test_lookup_that_blocks_ends_at_the_connect_limit(make_gate: GateMaker) -> None:
    forever = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        forever.wait(10)
        return []

    begin = time.monotonic()
    with pytest.raises(TimedOut):
        get(make_gate(resolver=resolver), "https://slow.example.com/")
    assert 0.9 < time.monotonic() - begin < 2
    forever.set()


# -- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_gate(make_gate: GateMaker) -> Gate:
    """A gate that finds every name on this machine."""
    return make_gate(allow_loopback=True, resolver=resolving("127.0.0.1"))


def test_tls_is_for_the_name_though_the_address_is_pinned(
    tls_gate: Gate,
    tls_provider: ScriptedProvider,
    certificate: Path,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    ask = Asking(tls_gate, f"https://api.example.com:{tls_provider.port}/v1", "openai")
    for _ in range(2):
        assert text_of(ask.events()) == "Hello from the provider."
    assert names == ["api.example.com"]  # and the second call used the same connection
    assert tls_provider.last.headers["host"] == f"api.example.com:{tls_provider.port}"


@pytest.mark.parametrize("trusted", [True, False])
def test_certificate_is_checked(
    tls_gate: Gate,
    tls_provider: ScriptedProvider,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    host = "other.example.com" if trusted else "api.example.com"
    error = Asking(tls_gate, f"https://{host}:{tls_provider.port}/v1", "openai").error()
    assert isinstance(error, Unreachable)
    assert "certificate" in error.detail or "hostname mismatch" in error.detail
    assert not tls_provider.requests


def test_server_without_tls_is_unreachable(tls_gate: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_the_clear() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.recv(65536)

        thread = threading.Thread(target=answer_in_the_clear)
        thread.start()
        url = f"https://api.example.com:{listener.getsockname()[1]}/v1"
        assert isinstance(Asking(tls_gate, url, "openai").error(), Unreachable)
        thread.join()


# -- connections --------------------------------------------------------------------------------------------


def test_connection_is_used_again(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    for _ in range(3):
        assert text_of(ask.events()) == "Hello from the provider."
    ask.client.list_models(ask.endpoint)
    assert provider.connections == 1


def test_answer_whose_end_comes_a_little_later_leaves_its_connection_for_use(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    ask = asking()
    for _ in range(2):
        assert ask.events()
    provider.wait_for_request(count=2).answered.wait(1)
    assert provider.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(openai_stream("a").steps[1], framing="close"), id="until-close"),
        pytest.param(Reply(*openai_stream("a").steps, keep_alive=False), id="connection-close"),
    ],
)
def test_connection_that_the_provider_closes_is_not_used_again(
    asking: AskingMaker, provider: ScriptedProvider, reply: Reply
) -> None:
    ask = asking()
    provider.script(reply)
    for _ in range(2):
        try:
            ask.events()
        except Unreachable:
            pass
    assert provider.connections == 2


def test_abandoned_answer_closes_its_connection(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    provider.script(openai_stream("a", threading.Event()))
    reads = ask.stream()
    next(reads)
    reads.close()  # type: ignore[attr-defined]
    assert provider.last.closed.wait(1)
    provider.script(openai_stream("b"))
    assert text_of(ask.events()) == "b"
    assert provider.connections == 2


def test_kept_connection_that_died_is_noticed(asking: AskingMaker, provider: ScriptedProvider) -> None:
    ask = asking()
    ask.events()
    provider.drop_idle_connections()
    assert text_of(ask.events()) == "Hello from the provider."
    assert provider.connections == 2


class DiesOnSecondRequest:
    """Answers the first request of its first connection; takes the second and closes without a word, or after one."""

    def __init__(self, last_words: bytes) -> None:
        self.requests: list[int] = []
        self._last_words = last_words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for number in (1, 2):
            sock, _ = self._listener.accept()
            with sock:
                while sock.recv(65536):
                    self.requests.append(number)
                    if len(self.requests) == 2:
                        sock.sendall(self._last_words)
                        break
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._listener.close()


def test_request_on_a_kept_connection_that_breaks_is_sent_once_more(make_gate: GateMaker) -> None:
    server, gate = DiesOnSecondRequest(b""), make_gate(allow_loopback=True)
    assert get(gate, server.url) == 200
    assert get(gate, server.url) == 200
    assert server.requests == [1, 1, 2]
    gate.close()
    server.close()


def test_request_that_got_a_byte_is_not_sent_again(make_gate: GateMaker) -> None:
    server, gate = DiesOnSecondRequest(b"HTTP/1.1 20"), make_gate(allow_loopback=True)
    assert get(gate, server.url) == 200
    with pytest.raises(Unreachable):
        get(gate, server.url)
    assert server.requests == [1, 1]
    server.close()


def test_surplus_bytes_end_the_connection(make_gate: GateMaker) -> None:
    """Bytes after a response would be read as the next one's."""
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n"
    with ScriptedProvider() as provider:
        provider.script(SurplusReply(surplus))
        gate = make_gate(allow_loopback=True)
        assert get(gate, f"{provider.url}/x") == 200
        assert get(gate, f"{provider.url}/x") == 200
        assert provider.connections == 2
        gate.close()


class SurplusReply(Reply):
    """Bytes as they are, on a connection that stays open."""

    def __init__(self, content: bytes) -> None:
        super().__init__(framing="length")
        self.head = content


def test_key_is_in_no_repr(make_gate: GateMaker) -> None:
    ask = Asking(make_gate(), "https://api.example.com", "openai")
    request = HttpRequest("GET", "https://api.example.com", {"Authorization": f"Bearer {KEY}"})
    assert KEY not in repr(ask.endpoint) + repr(request)
