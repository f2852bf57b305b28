"""Tokens of an external identity provider, with real keys from files and from a real HTTP server."""

import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from chat_api.auth import provider_keys
from chat_api.database.session import db
from chat_api.users.models import User
from tests.completions.chat import wait_for
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.proxy import Proxy

ISSUER, AUDIENCE = "https://id.example.org/", "chat"
ALGORITHMS = ("RS256", "ES256")


@cache
def private_key(algorithm: str, name: str) -> Any:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(algorithm: str) -> bytes:
    key = private_key(algorithm, "a").public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwks(*keys: tuple[str, str]) -> dict[str, Any]:
    """A JWKS of keys, each an algorithm and a name that is its key id."""
    entries = []
    for algorithm, name in keys:
        kind = ECAlgorithm if algorithm == "ES256" else RSAAlgorithm
        entry = kind.to_jwk(private_key(algorithm, name).public_key(), as_dict=True)
        entries.append({**entry, "kid": name, "use": "sig", "alg": algorithm})
    return {"keys": entries}


def token(algorithm: str = "RS256", name: str = "a", *, kid: str | None = None, **claims: Any) -> str:
    """A token of the provider; a claim of None is left out."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60, **claims}
    claims = {key: value for key, value in claims.items() if value is not None}
    return jwt.encode(claims, private_key(algorithm, name), algorithm, headers={"kid": kid} if kid else None)


class KeyServer:
    """A provider's JWKS over HTTP: what it serves may change, and it counts its requests."""

    def __init__(self) -> None:
        self.body, self.status, self.requests = b"", 200, 0
        self.bodies: dict[str, bytes] = {}  # by path, where it is not the same for all
        self.answers = Event()
        self.answers.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                server.answers.wait()
                self.send_response(server.status)
                body = server.bodies.get(self.path, server.body)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/jwks.json"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def serve(self, *keys: tuple[str, str]) -> None:
        self.body = json.dumps(jwks(*keys)).encode()

    def hang(self) -> None:
        """Take connections and requests from now on, and answer nothing."""
        self.answers.clear()

    def stop(self) -> None:
        self.answers.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.stop()


Deploy = Callable[..., AbstractContextManager[Flask]]


@pytest.fixture
def deploy(database_url: str, tmp_path: Path) -> Deploy:
    """Run the service with the provider's keys from a source; an issuer of the test's own keeps users apart."""

    @contextmanager
    def deployed(keys: Any, **settings: Any) -> Iterator[Flask]:
        provider = {"OIDC_ISSUER": ISSUER, "OIDC_AUDIENCE": AUDIENCE, "OIDC_KEYS": str(keys)}
        with serving(database_url, tmp_path, **{"LOCAL_ACCOUNTS": False, **provider, **settings}) as app:
            yield app

    return deployed


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rs256_file(tmp_path: Path) -> Path:
    path = tmp_path / "provider.pem"
    path.write_bytes(public_pem("RS256"))
    return path


def status(app: Flask, bearer: str) -> int:
    return Api(app, bearer).get("/auth/me").status_code


# -- where keys come from ---------------------------------------------------------------------------------


def test_keys_are_fetched_through_the_operators_proxy(deploy: Deploy, key_server: KeyServer) -> None:
    key_server.serve(("RS256", "first"))
    port = urlsplit(key_server.url).port
    with Proxy({"id.internal": ("127.0.0.1", port or 0)}, "ada:secret") as proxy:
        with deploy("http://id.internal/jwks.json", OUTGOING_PROXY=proxy.url) as app:
            assert status(app, token("RS256", "first", kid="first")) == 200
        assert [target for _, target, _ in proxy.requests] == ["http://id.internal/jwks.json"]


def test_keys_come_from_a_pem_file(deploy: Deploy, tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "provider.pem"
    path.write_bytes(public_pem(algorithm))
    with deploy(path) as app:
        assert status(app, token(algorithm)) == 200
        assert status(app, token(algorithm, kid="any")) == 200
        assert status(app, token(algorithm, "another key")) == 401
        other = next(name for name in ALGORITHMS if name != algorithm)
        assert status(app, token(other)) == 401


def test_keys_come_from_a_jwks_file(deploy: Deploy, tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(("RS256", "r"), ("ES256", "e"), ("RS256", "r2"), ("ES256", "e2"))))
    with deploy(path) as app:
        for name in {"RS256": ("r", "r2"), "ES256": ("e", "e2")}[algorithm]:
            assert status(app, token(algorithm, name, kid=name)) == 200
        first = algorithm[0].lower()
        assert (
            status(app, token(algorithm, f"{first}2", kid=first)) == 401
        )  # another key than the one it names
        assert status(app, token(algorithm, first, kid="unknown")) == 401


def test_keys_come_from_a_url_and_are_kept(deploy: Deploy, key_server: KeyServer, algorithm: str) -> None:
    key_server.serve(("RS256", "r"), ("ES256", "e"))
    with deploy(key_server.url) as app:
        name = algorithm[0].lower()
        assert [status(app, token(algorithm, name, kid=name)) for _ in range(5)] == [200] * 5
        assert key_server.requests == 1


@pytest.mark.parametrize("path", ["", "/realms/chat", "/realms/chat/"])
def test_keys_are_found_through_the_issuers_discovery_document(
    database_url: str, tmp_path: Path, key_server: KeyServer, path: str
) -> None:
    issuer = key_server.origin + path
    key_server.serve(("RS256", "a"))
    document = {"issuer": issuer, "jwks_uri": key_server.url}
    key_server.bodies[path.rstrip("/") + "/.well-known/openid-configuration"] = json.dumps(document).encode()
    with serving(database_url, tmp_path, OIDC_ISSUER=issuer) as app:
        assert status(app, token(iss=issuer, aud="chat-api", kid="a")) == 200
        assert status(app, token(iss=issuer, aud="another-client", kid="a")) == 401
        assert status(app, token(iss=issuer, aud=None, kid="a")) == 401
        assert key_server.requests == 2


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "{origin}/jwks.json"},
        {"jwks_uri": "{origin}/jwks.json"},
        {"issuer": "{origin}"},
        {"issuer": "{origin}", "jwks_uri": "http://10.0.0.1/jwks.json"},
        {"issuer": "{origin}", "jwks_uri": "file:///etc/passwd"},
        ["no object"],
    ],
)
def test_a_discovery_document_that_is_not_the_issuers_brings_no_keys(
    database_url: str, tmp_path: Path, key_server: KeyServer, document: Any
) -> None:
    key_server.serve(("RS256", "a"))
    text = json.dumps(document).replace("{origin}", key_server.origin)
    key_server.bodies["/.well-known/openid-configuration"] = text.encode()
    with serving(database_url, tmp_path, OIDC_ISSUER=key_server.origin) as app:
        assert status(app, token(iss=key_server.origin, aud="chat-api", kid="a")) == 503


def test_an_unknown_key_id_fetches_the_keys_again_but_not_at_a_strangers_pace(
    deploy: Deploy, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_keys, "REFRESH_INTERVAL_S", 1.0)
    key_server.serve(("RS256", "old"))
    with deploy(key_server.url) as app:
        assert status(app, token(name="old", kid="old")) == 200
        key_server.serve(("RS256", "new"))  # the provider has rotated its keys
        assert status(app, token(name="new", kid="new")) == 200
        assert key_server.requests == 2
        strangers = [status(app, token(name="new", kid=f"stranger {number}")) for number in range(10)]
        assert (strangers, key_server.requests) == ([401] * 10, 2)
        assert status(app, token(name="old", kid="old")) == 401
        time.sleep(1.0)
        key_server.serve(("RS256", "newest"))
        assert status(app, token(name="newest", kid="newest")) == 200
        assert key_server.requests == 3


def test_without_the_providers_keys_nobody_is_let_in_or_refused(
    deploy: Deploy, key_server: KeyServer
) -> None:
    with deploy(key_server.url) as app:
        for key_server.status, key_server.body in (
            (500, b""),
            (200, b"<html>"),
            (200, b"{}"),
            (200, b'{"keys":[]}'),
        ):
            response = Api(app, token(kid="a")).get("/auth/me")
            assert response.status_code == 503, key_server.body
            assert response.headers["Retry-After"] == "1"
        key_server.stop()
        assert status(app, token(kid="a")) == 503


def test_keys_that_are_known_survive_an_outage_of_the_provider(deploy: Deploy, key_server: KeyServer) -> None:
    key_server.serve(("RS256", "a"))
    with deploy(key_server.url) as app:
        assert status(app, token(kid="a")) == 200
        key_server.stop()
        assert status(app, token(kid="unknown")) == 503
        assert status(app, token(kid="a")) == 200


def test_keys_that_are_old_are_used_while_newer_ones_are_fetched(
    deploy: Deploy, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_keys, "KEEP_KEYS_S", 0.0)
    key_server.serve(("RS256", "a"))
    with deploy(key_server.url) as app:
        assert status(app, token(kid="a")) == 200
        key_server.hang()
        began = time.monotonic()
        assert [status(app, token(kid="a")) for _ in range(5)] == [200] * 5
        assert time.monotonic() - began < 1
        wait_for(lambda: key_server.requests == 2)
        assert status(app, token(kid="a")) == 200
        assert key_server.requests == 2, "One fetch at a time."
        monkeypatch.setattr(provider_keys, "LONGEST_KEEP_S", 0.0)
        assert status(app, token(kid="a")) == 503, "Nobody can say for ever that the provider is only away."


def test_a_provider_that_hangs_is_asked_once_and_only_a_few_wait_for_it(
    deploy: Deploy, key_server: KeyServer
) -> None:
    key_server.serve(("RS256", "a"))
    with deploy(key_server.url) as app:
        assert status(app, token(kid="a")) == 200
        key_server.hang()

        def timed(kid: str) -> tuple[int, float]:
            began = time.monotonic()
            return status(app, token(kid=kid)), time.monotonic() - began

        with ThreadPoolExecutor(24) as pool:
            strangers = [pool.submit(timed, f"stranger {number}") for number in range(24)]
            time.sleep(0.3)
            known = timed("a")
            answers = [stranger.result() for stranger in strangers]
        assert known[0] == 200
        assert known[1] < 1
        assert {answer for answer, _ in answers} == {503}
        waited = [seconds for _, seconds in answers if seconds > 3]
        assert len(waited) <= provider_keys.MAX_WAITING
        answer, seconds = timed("yet another stranger")  # the failure is remembered
        assert (answer, seconds < 1, key_server.requests) == (503, True, 2)


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://id.example.com/"}, {"aud": "billing"}, {"exp": 1_700_000_000}],
    ids=["another issuer", "another audience", "expired"],
)
def test_a_token_that_can_not_be_valid_causes_no_fetch(
    deploy: Deploy, key_server: KeyServer, claims: dict[str, Any]
) -> None:
    with deploy(key_server.url) as app:
        assert status(app, token(kid="a", **claims)) == 401
        assert key_server.requests == 0


# -- what is checked --------------------------------------------------------------------------------------

BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://id.example.com/"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "billing"},
    "no audience": {"aud": None},
    "expired": {"exp": 1_700_000_000},
    "no expiry": {"exp": None},
    "expiry that is no number": {"exp": "tomorrow"},
    "not valid yet": {"nbf": 4_000_000_000},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a long subject": {"sub": "x" * 256},
    "a subject that can't be stored": {"sub": "a\x00b"},
    "a subject with half a character": {"sub": "a\ud800b"},
}


@pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_a_token_for_somewhere_or_some_other_time_is_refused(
    deploy: Deploy, rs256_file: Path, claims: dict[str, Any]
) -> None:
    with deploy(rs256_file) as app:
        assert status(app, token()) == 200
        response = Api(app, token(**claims)).get("/auth/me")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_the_audience_may_be_one_of_several(deploy: Deploy, rs256_file: Path) -> None:
    with deploy(rs256_file) as app:
        assert status(app, token(aud=["billing", AUDIENCE])) == 200


@pytest.mark.parametrize("headers", [None, {"typ": "at+jwt"}, {"kid": "a"}])
def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    deploy: Deploy, rs256_file: Path, headers: dict[str, str] | None
) -> None:
    genuine = jwt.decode(token(), options={"verify_signature": False})
    parts = [{"alg": "HS256", "typ": "JWT", **(headers or {})}, genuine]
    content = b".".join(base64url_encode(json.dumps(part).encode()) for part in parts)
    # by hand: PyJWT refuses to sign with a PEM, an attacker's library does not
    signature = base64url_encode(hmac.digest(public_pem("RS256"), content, "sha256"))
    with deploy(rs256_file) as app:
        assert status(app, (content + b"." + signature).decode()) == 401


@pytest.mark.parametrize("algorithm", ["RS384", "PS256", "RS512"])
def test_only_two_algorithms_are_accepted(deploy: Deploy, rs256_file: Path, algorithm: str) -> None:
    claims = jwt.decode(token(), options={"verify_signature": False})
    with deploy(rs256_file) as app:
        assert status(app, jwt.encode(claims, private_key("RS256", "a"), algorithm)) == 401
        assert status(app, jwt.encode(claims, "", "none")) == 401


def test_without_a_provider_its_tokens_are_foreign(app: Flask) -> None:
    assert status(app, token()) == 401


# -- whose they are ---------------------------------------------------------------------------------------


def test_a_user_is_made_at_first_sight_and_stays_the_same(deploy: Deploy, rs256_file: Path) -> None:
    subject = new_email()
    with deploy(rs256_file) as app:
        user = Api(app, token(sub=subject, email="ada@example.org", role="admin")).get("/auth/me").get_json()
        assert (user["email"], user["role"]) == (None, "user")
        api = Api(app, token(sub=subject), user)
        assert api.get("/auth/me").get_json() == user
        assert api.conversation()["user_id"] == user["id"]
        assert Api(app, token(sub=new_email())).get("/auth/me").get_json()["id"] != user["id"]


def test_parallel_first_requests_make_one_user(deploy: Deploy, rs256_file: Path) -> None:
    subject = new_email()
    with deploy(rs256_file) as app:
        bearer = token(sub=subject)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: Api(app, bearer).get("/auth/me"), range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.get_json()["id"] for answer in answers}) == 1
        with app.app_context():
            query = sa.select(sa.func.count()).where(User.subject == subject)
            assert db.session.scalar(query) == 1


def test_with_local_accounts_off_nothing_local_works(deploy: Deploy, rs256_file: Path, ada: Api) -> None:
    # the same signing secret as the service that made the tokens
    with deploy(rs256_file, JWT_SECRET_KEY=ada.app.config["JWT_SECRET_KEY"]) as app:
        body = {"email": ada.user["email"], "password": PASSWORD}
        assert Api(app).post("/auth/register", {**body, "email": new_email()}).status_code == 403
        assert Api(app).post("/auth/login", body).status_code == 403
        assert Api(app, ada.refresh_token).post("/auth/refresh").status_code == 403
        assert status(app, str(ada.token)) == 401
    assert ada.get("/auth/me").status_code == 200


def test_local_accounts_and_the_provider_may_stand_side_by_side(
    deploy: Deploy, rs256_file: Path, ada: Api
) -> None:
    with deploy(rs256_file, LOCAL_ACCOUNTS=True) as app:
        assert Api(app, user=ada.user).log_in().get("/auth/me").get_json() == ada.user
        assert status(app, token()) == 200


def test_external_users_have_personal_tokens_but_no_password(deploy: Deploy, rs256_file: Path) -> None:
    with deploy(rs256_file) as app:
        external = Api(app, token(sub=new_email(), iat=time.time()))
        script = Api(app, external.made("/auth/tokens", {"name": "script"})["token"])
        assert script.get("/auth/me").get_json() == external.get("/auth/me").get_json()
        change = {"current_password": "x", "password": "nine lives of a cat"}
        assert external.patch("/auth/me", change).status_code == 403
        assert external.post("/auth/logout").status_code == 403
        assert external.delete("/auth/me").status_code == 204
        assert script.get("/auth/me").status_code == 401


def test_an_external_user_makes_a_token_right_after_a_login(deploy: Deploy, rs256_file: Path) -> None:
    subject, moment = new_email(), int(time.time())
    with deploy(rs256_file) as app:

        def create(**claims: Any) -> Any:
            answer = Api(app, token(sub=subject, **claims)).post("/auth/tokens", {"name": "script"})
            return answer.status_code, answer.get_json().get("code")

        created, refused = (201, None), (403, "recent_login_required")
        assert create(iat=moment) == created
        assert create(iat=moment, auth_time=moment - 60) == created
        assert create(iat=moment - 600) == refused
        assert create(iat=moment, auth_time=moment - 600) == refused, "A refreshed token is no login."
        assert create() == refused
        assert create(auth_time=moment + 6000) == refused
        assert create(iat=moment, auth_time="now") == refused
        body = {"name": "script", "current_password": PASSWORD}
        assert Api(app, token(sub=subject)).post("/auth/tokens", body).status_code == 403


def test_an_external_user_erases_the_account_right_after_a_login(deploy: Deploy, rs256_file: Path) -> None:
    subject, moment = new_email(), int(time.time())
    with deploy(rs256_file) as app:

        def erase(body: Any = None, **claims: Any) -> Any:
            answer = Api(app, token(sub=subject, **claims)).delete("/auth/me", json=body)
            return answer.status_code, (answer.get_json(silent=True) or {}).get("code")

        for claims in ({}, {"iat": moment - 600}, {"iat": moment, "auth_time": moment - 600}):
            assert erase(**claims) == (403, "recent_login_required")
        assert erase({"current_password": PASSWORD}, iat=moment) == (403, "forbidden")  # there is none here
        assert erase(iat=moment, auth_time=moment - 60) == (204, None)
