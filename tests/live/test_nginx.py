"""deploy/nginx.conf in a real nginx, before the real service."""

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv6Address, IPv6Network
from random import Random

import pytest

from tests.live.client import SETTINGS, Answer, Person, assert_problem, at_once, read_answer, serving
from tests.support.nginx import HOST, Nginx
from tests.support.server import REPOSITORY, GunicornServer, free_port

SECURITY_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@pytest.fixture(scope="module")
def server() -> Iterator[GunicornServer]:
    with serving(SETTINGS | {"TRUSTED_PROXIES": "1"}) as running:
        yield running


@pytest.fixture
def nginx(server: GunicornServer) -> Iterator[Nginx]:
    """Each test has its own, with counters at zero."""
    with Nginx(server.port) as running:
        yield running


@pytest.fixture(scope="module")
def person(server: GunicornServer) -> Person:
    return Person(server)


def connect(nginx: Nginx, name: str = HOST) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", nginx.port), timeout=30)
    return nginx.context.wrap_socket(plain, server_hostname=name)


def head(method: str, path: str, *fields: str, host: str = HOST) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def ask(nginx: Nginx, raw: bytes) -> Answer:
    with connect(nginx) as connection:
        connection.sendall(raw)
        return read_answer(connection)


def bearer(person: Person) -> str:
    return f"Authorization: Bearer {person.token}"


def json_request(path: str, body: bytes, *fields: str) -> bytes:
    length = f"Content-Length: {len(body)}"
    return head("POST", path, "Content-Type: application/json", length, *fields) + body


def test_requests_reach_the_service_with_their_address_and_id(
    server: GunicornServer, nginx: Nginx, person: Person
) -> None:
    answer = ask(nginx, head("GET", "/auth/me", bearer(person), "X-Request-ID: my-own-id"))
    assert (answer.status, answer.body["id"]) == (200, person.user["id"])
    assert answer.headers["X-Request-ID"] == "my-own-id"
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert all(len(answer.headers.get_all(name)) == 1 for name in (*SECURITY_HEADERS, "X-Request-ID"))


def test_messages_exports_and_imports_pass_through(nginx: Nginx, person: Person) -> None:
    conversation = person.conversation()
    message = {"conversation_id": conversation, "role": "user", "content": "\x01" * 1_000_000}
    said = ask(nginx, json_request("/chat/messages", json.dumps(message).encode(), bearer(person)))
    assert said.status == 201, said
    exported = ask(nginx, head("GET", "/chat/export", bearer(person), "Connection: close"))
    assert exported.status == 200
    fields = ("Content-Type: application/x-ndjson", f"Content-Length: {len(exported.body)}", bearer(person))
    imported = ask(nginx, head("POST", "/chat/import", *fields) + exported.body)
    assert imported.status == 200, imported


@pytest.mark.parametrize(
    ("path", "size"),
    [("/chat/import", 1024**3), ("/chat/messages", 8 * 1024**2), ("/chat/completions", 8 * 1024**2)],
)
def test_no_body_goes_to_disk_before_anybody_has_looked_at_the_token(
    nginx: Nginx, path: str, size: int
) -> None:
    with connect(nginx) as connection:
        connection.sendall(head("POST", path, "Content-Type: application/json", f"Content-Length: {size}"))
        began, sent, on_disk = time.monotonic(), 0, 0
        try:
            while sent < 16 * 1024 * 1024 and time.monotonic() - began < 10:
                connection.sendall(b"x" * 65536)
                sent += 65536
                on_disk = max(on_disk, nginx.bytes_on_disk)
        except OSError:
            pass  # it has answered and closed
        assert on_disk == 0
        try:
            assert_problem(read_answer(connection), 401)
        except OSError:
            pass  # what was still being sent met a closed connection


def test_stranger_is_answered_before_a_body_is_sent(nginx: Nginx) -> None:
    for path in ("/chat/import", "/chat/messages", "/chat/completions"):
        fields = ("Content-Type: application/json", "Content-Length: 1000000")
        assert_problem(ask(nginx, head("POST", path, *fields) + b"{"), 401)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_dialects_take_bodies_as_large_as_completions_do(nginx: Nginx, path: str) -> None:
    """The service itself answers, in the words of the dialect."""
    fields = ("Content-Type: application/json", f"Content-Length: {8 * 1024**2}")
    answer = ask(nginx, head("POST", path, *fields) + b"{")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.headers.get_content_type() != "application/problem+json"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (json_request("/auth/login", b" " * 90_000), 413),
        (head("POST", "/chat/messages", f"Content-Length: {10 * 1024**2}"), 413),
        (head("POST", "/chat/import", f"Content-Length: {2 * 1024**3}"), 413),
        (head("GET", "/metrics"), 404),
        (head("GET", "/healthz", "X-Large: " + "x" * 40_000), 400),
    ],
    ids=["login", "message", "import", "metrics", "header"],
)
def test_its_own_errors_are_problems_with_all_security_headers(nginx: Nginx, raw: bytes, status: int) -> None:
    answer = ask(nginx, raw)
    assert_problem(answer, status)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert answer.headers.get_all("X-Request-ID") == [answer.body["request_id"]]
    assert "Retry-After" not in answer.headers


def test_an_ipv6_network_is_one_client_however_its_addresses_are_written() -> None:
    """Its /64 has one share of the limits, whichever groups are zeros and so left out of an address."""
    random = Random(64)
    groups = ["0", "0", "0", "1", "db8", "2001", "ffff"]
    addresses = [
        IPv6Address(":".join([random.choice(("2001", "2a02")), *random.choices(groups, k=7)]))
        for _ in range(2000)
    ]
    found = clients_of([str(address) for address in addresses])
    networks = [IPv6Network((address, 64), strict=False) for address in addresses]
    assert len(set(networks)) > 100
    assert len(set(zip(networks, found, strict=True))) == len(set(networks)) == len(set(found))


def test_an_ipv4_address_is_one_client() -> None:
    given = ["192.0.2.1", "192.0.2.12", "::ffff:192.0.2.1", "::1", "::2"]
    assert clients_of(given) == ["192.0.2.1", "192.0.2.12", "192.0.2.1", "::1", "::2"]


def clients_of(addresses: list[str]) -> list[str]:
    """Whose share of the limits a request from each address has: the shipped map, for an address in the query."""
    shipped = (REPOSITORY / "deploy" / "nginx.conf").read_text()
    [found] = re.findall(
        r"^map \$remote_addr \$chat_api_client \{$.*?^\}$", shipped, re.MULTILINE | re.DOTALL
    )
    own = found.replace("$remote_addr", "$arg_address").replace("$chat_api_client", "$client_of_query")
    own = own.replace("?P<chat_api", "?P<of_query").replace("$chat_api_", "$of_query_")
    port = free_port()
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 $client_of_query; }} }}"
    with (
        Nginx(free_port(), also=f"{own}\n{server}"),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        return [_body(connection, f"/?address={address}") for address in addresses]


def _body(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def test_service_that_is_away_is_503() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Nginx(nobody.getsockname()[1]) as nginx:
            answer = ask(nginx, head("GET", "/healthz"))
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_foreign_host_gets_no_certificate(nginx: Nginx) -> None:
    with pytest.raises(ssl.SSLError):
        connect(nginx, "evil.example")


def test_foreign_host_in_a_request_is_misdirected(nginx: Nginx) -> None:
    with connect(nginx) as connection:
        connection.sendall(head("GET", "/healthz", host="evil.example"))
        answer = read_answer(connection)
    assert (answer.status, answer.body["code"]) == (421, "misdirected_request")


def test_plain_http_on_the_tls_port_is_a_problem(nginx: Nginx) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=30) as connection:
        connection.sendall(head("GET", "/healthz"))
        assert read_answer(connection).status in (400, 421)


def test_requests_of_one_address_are_limited(nginx: Nginx) -> None:
    def login() -> Answer:
        return ask(nginx, json_request("/auth/login", b'{"email": "a@b.example", "password": "x"}'))

    answers = at_once([login] * 40)
    refused = [answer for answer in answers if answer.body["detail"].startswith("Too many requests or conn")]
    assert 5 <= len(refused) <= 20  # a burst of 20, and 10 a second
    assert_problem(refused[0], 429)
    assert refused[0].headers["Retry-After"] == "1"
    assert ask(nginx, head("GET", "/healthz")).status == 200


def test_imports_of_one_address_are_limited(nginx: Nginx, person: Person) -> None:
    fields = ("Content-Type: application/x-ndjson", "Content-Length: 1000000", bearer(person))
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connect(nginx))
            connection.sendall(head("POST", "/chat/import", *fields) + b"{")
        time.sleep(0.5)
        answer = ask(nginx, head("POST", "/chat/import", *fields) + b"{")
    assert_problem(answer, 429)
    assert answer.body["detail"].startswith("Too many requests or connections")
