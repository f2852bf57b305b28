"""Endpoints for whoever runs the service: /healthz, /readyz, /metrics."""

import hmac

from flask import Response, current_app

from ..auth.guard import bearer_token
from ..errors import NotFound, Unauthorized
from ..telemetry import metrics
from ..web.blueprint import Blueprint
from . import service
from .schemas import HealthSchema

blp = Blueprint("operations", __name__, description="For whoever runs the service.")


@blp.route("/healthz", methods=["GET"])
@blp.response(200, HealthSchema)
def get_health() -> dict[str, str]:
    """Tell whether the process is alive."""
    return {"status": "ok"}


@blp.route("/readyz", methods=["GET"])
@blp.response(200, HealthSchema)
def get_readiness() -> dict[str, str]:
    """Tell whether it can serve: the database answers and its schema is the current one."""
    service.require_ready()
    return {"status": "ok"}


@blp.route("/metrics", methods=["GET"])
@blp.response(200, {"type": "string"}, content_type="text/plain")
def get_metrics() -> Response:
    """Get the counters in Prometheus' format, with the bearer token METRICS_TOKEN."""
    expected = current_app.config["METRICS_TOKEN"]
    if not expected:
        raise NotFound("page here: METRICS_TOKEN is not set")
    if not hmac.compare_digest(bearer_token().encode(), expected.encode()):
        raise Unauthorized("The token is not METRICS_TOKEN.", error="invalid_token")
    return current_app.response_class(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
