"""Clients without a token share by network: a subscriber of IPv6 has more addresses than there are slots."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flask import Flask

from chat_api.server.slots import MAX_RECEIVING_PER_CLIENT, receiving_slots
from chat_api.web.client_address import network_of
from chat_api.web.request_body import WAITING_FOR_CLIENT
from tests.support.api import Api

OWN = "2001:db8:1:2:"  # and 64 bits of the subscriber's choice


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (f"{OWN}:1", "2001:db8:1:2::/64"),
        (f"{OWN}ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("", ""),
    ],
)
def test_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_large_bodies_without_a_token_count_by_network(app: Flask) -> None:
    """As the worker counts them: a body whose length is not known takes one of the slots."""
    slots = receiving_slots()

    @contextmanager
    def waiting_for_client(client: str) -> Iterator[None]:
        with slots.take(client):
            if client not in holders:
                holders.append(client)
            yield

    holders: list[str] = []

    def log_in_from(address: str) -> int:
        environ = {
            "REMOTE_ADDR": address,
            WAITING_FOR_CLIENT: waiting_for_client,
            "wsgi.input_terminated": True,
        }
        headers = {"Content-Type": "application/json", "Expect": "100-continue"}
        body = b'{"email": "nobody@example.com", "password": "correct horse"}'
        return (
            Api(app)
            .request("POST", "/auth/login", data=body, headers=headers, environ_overrides=environ)
            .status_code
        )

    assert log_in_from(f"{OWN}:1") == 401
    [network] = holders
    with ExitStack() as taken:
        for _ in range(MAX_RECEIVING_PER_CLIENT):
            taken.enter_context(slots.take(network))
        assert log_in_from(f"{OWN}:2") == 429, "Another address of the same subscriber."
        assert log_in_from("2001:db8:1:3::1") == 401
        assert log_in_from("192.0.2.7") == 401
