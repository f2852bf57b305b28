"""Fixtures of calls: a scripted provider, also with TLS, and gates and clients that may call this machine."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_api.egress.gate import Gate
from tests.support.asking import asking, gate, provider  # noqa: F401
from tests.support.certificates import self_signed
from tests.support.provider import ScriptedProvider

GateMaker = Callable[..., Gate]


@pytest.fixture
def make_gate() -> Iterator[GateMaker]:
    """Makes gates, whose kept connections are closed after the test."""
    gates: list[Gate] = []

    def make(*arguments: Any, **keywords: Any) -> Gate:
        gates.append(Gate(*arguments, **keywords))
        return gates[-1]

    yield make
    for made in gates:
        made.close()


def resolving(*addresses: str) -> Callable[[str, int], list[str]]:
    """A resolver that knows these addresses for every name."""
    return lambda host, port: list(addresses)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of api.example.com, in one file."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(b"".join(self_signed("api.example.com")))
    return path


@pytest.fixture
def names() -> list[str]:
    """The server names (SNI) that clients sent."""
    return []


@pytest.fixture
def tls_provider(certificate: Path, names: list[str]) -> Iterator[ScriptedProvider]:
    """A provider that speaks TLS as api.example.com."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda sock, name, _: names.append(name)
    with ScriptedProvider(context) as scripted:
        yield scripted
