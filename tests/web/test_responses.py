"""What responses have in common."""

import re

import pytest

from tests.support.api import Api


def test_times_are_in_utc_with_a_z(user: Api, own_ids: dict[str, str]) -> None:
    user.attachment(own_ids["message"])
    found = [
        user.get("/auth/me").get_json(),
        user.get(f"/chat/conversations/{own_ids['conversation']}").get_json(),
        user.get(f"/chat/llm-providers/{own_ids['provider']}").get_json(),
        user.config(user.provider()["id"]),
        user.made("/auth/tokens", {"name": "script"}),
        user.get(f"/chat/conversations/{own_ids['conversation']}/messages").get_json()[0],
        user.get(f"/chat/messages/{own_ids['message']}/attachments").get_json()[0],
        user.get(f"/chat/completions/{own_ids['completion']}").get_json(),
        user.get(f"/chat/completions/{own_ids['completion']}").get_json()["message"],
    ]
    times = [value for one in found for name, value in one.items() if name.endswith("_at")]
    assert len(times) >= 13
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time), time


@pytest.mark.parametrize("host", ["", "a b", "x.example:port", "é", "a/b", "evil.example", "[::1"])
def test_strange_host_does_no_harm(stranger: Api, host: str) -> None:
    response = stranger.get("/healthz", headers={"Host": host})
    assert response.status_code in (200, 400)
    assert response.mimetype in ("application/json", "application/problem+json")
