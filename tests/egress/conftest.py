"""Fixtures of calls: a scripted provider, also with TLS, and gates and clients that may call this machine."""

import datetime
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chat_api.egress.gate import Gate
from tests.support.asking import asking, gate, provider  # noqa: F401
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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("api.example.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
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
