"""An identity provider that hangs, and forged tokens by the dozen: nobody else waits for it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.live.client import SETTINGS, Person
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

ISSUER, AUDIENCE = "https://id.example.org/", "chat"
ATTACKERS, ATTACK_S = 24, 4


class HangingProvider:
    """Takes connections and never answers; counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def hanging() -> Iterator[HangingProvider]:
    provider = HangingProvider()
    yield provider
    provider.close()


def signed(key: ec.EllipticCurvePrivateKey, key_id: str) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": time.time(), "exp": time.time() + 600}
    return jwt.encode(claims, key, "ES256", headers={"kid": key_id})


def forged(number: int) -> str:
    """A token that could be the provider's but for its signature, of a key that nobody knows."""
    return signed(ec.generate_private_key(ec.SECP256R1()), f"k{number}")


@contextmanager
def slow_provider(key: ec.EllipticCurvePrivateKey) -> Iterator[int]:
    """The port of a provider that takes a moment to say which key it signs with."""
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    keys = json.dumps({"keys": [{**public, "kid": "own", "alg": "ES256", "use": "sig"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        yield provider.server_port
        provider.shutdown()


def settings_for(database_url: str, port: int) -> dict[str, str]:
    provider = {
        "OIDC_ISSUER": ISSUER,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_KEYS": f"http://127.0.0.1:{port}/jwks.json",
    }
    return SETTINGS | provider | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "1", "THREADS": "8"}


def test_forged_tokens_and_a_provider_that_hangs_cost_others_nothing(
    database_url: str, hanging: HangingProvider
) -> None:
    with GunicornServer(settings_for(database_url, hanging.port), migrate=False) as server:
        innocent = Person(server)

        def attack(attacker: int) -> set[int]:
            statuses: set[int] = set()
            ends_at = time.monotonic() + ATTACK_S
            for number in range(100_000):
                if time.monotonic() > ends_at:
                    break
                token = forged(attacker * 100_000 + number)
                headers = {"Authorization": f"Bearer {token}"}
                statuses.add(server.request("GET", "/auth/me", headers=headers)[0])
                time.sleep(0.05)
            return statuses

        with watching(server, innocent) as watch, ThreadPoolExecutor(ATTACKERS) as pool:
            statuses = set().union(*pool.map(attack, range(ATTACKERS)))
    print(json.dumps({"fetches": len(hanging.connections), "statuses": sorted(statuses)}))
    assert statuses == {503}, "Nobody can know whether such a token is valid."
    assert 1 <= len(hanging.connections) <= 2, "One fetch at a time, and none for a while after a failure."
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 1
    assert percentile(watch.reads_s, 99) < 1


def test_requests_that_have_waited_for_the_keys_give_all_back(database_url: str) -> None:
    """More of them than a user may have running, as an application sends when it starts."""
    key = ec.generate_private_key(ec.SECP256R1())
    headers = {"Authorization": f"Bearer {signed(key, 'own')}"}
    with (
        slow_provider(key) as port,
        GunicornServer(settings_for(database_url, port), migrate=False) as server,
        ThreadPoolExecutor(8) as pool,
    ):

        def get_me(_: int) -> int:
            return server.request("GET", "/auth/me", headers=headers)[0]

        for _ in range(2):
            assert set(pool.map(get_me, range(8))) == {200}
