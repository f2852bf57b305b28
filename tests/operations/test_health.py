"""/healthz, /readyz and /metrics, for whoever runs the service; over several workers in tests/live."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import serving
from tests.support.api import Api

TOKEN = "the operator's token"


@pytest.fixture
def counting_app(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """An application whose operator turned /metrics on."""
    with serving(database_url, tmp_path, METRICS_TOKEN=TOKEN) as application:
        yield application


@pytest.mark.happy_path("get_health", "get_readiness")
def test_a_service_with_its_database_is_alive_and_ready(stranger: Api) -> None:
    for path in ("/healthz", "/readyz"):
        response = stranger.get(path)
        assert (response.status_code, response.get_json()) == (200, {"status": "ok"})


@pytest.mark.happy_path("get_metrics")
def test_metrics_count_requests_by_route_and_status(counting_app: Flask) -> None:
    operator = Api(counting_app, TOKEN)
    line = b'chat_api_requests_total{method="GET",route="/chat/conversations",status="401"}'

    def count() -> float:
        response = operator.get("/metrics")
        assert response.status_code == 200
        assert response.mimetype == "text/plain"
        return sum(
            float(found.rpartition(b" ")[2])
            for found in response.get_data().splitlines()
            if found.startswith(line)
        )

    before = count()
    for _ in range(3):
        assert Api(counting_app).get("/chat/conversations").status_code == 401
    assert count() == before + 3


def test_metrics_need_their_own_token(counting_app: Flask, stranger: Api) -> None:
    for token in (None, "another", ""):
        assert Api(counting_app, token).get("/metrics").status_code == 401
    assert Api(stranger.app, TOKEN).get("/metrics").status_code == 404, "This service has no METRICS_TOKEN."
