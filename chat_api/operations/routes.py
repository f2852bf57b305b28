"""Endpoints for operators: /healthz, /readyz, /metrics."""

import hmac

from flask import Response, current_app, request

from ..auth.guard import bearer_token
from ..errors import NotFound, Unauthorized
from ..web.blueprint import Blueprint
from . import service
from .schemas import HealthSchema

# load balancers and monitoring may add query parameters of their own; a healthy service must not fail their check
blp = Blueprint("operations", __name__, description="Health and metrics, for operators.", ignores_query=True)


WITHOUT_TOKEN = ("auth.register", "auth.log_in")
WITHOUT_TABLES = ("operations", "documentation", "swagger_ui", None)


@blp.before_app_request
def require_usable_database() -> None:
    """Respond with 503 to all that uses the tables, until the database is upgraded and set up as it must be."""
    if service.EXTENSION in current_app.extensions:  # it was found to be so
        return
    # without a token the guard responds with 401, and needs no database for it
    is_refused_anyway = request.endpoint not in WITHOUT_TOKEN and "Authorization" not in request.headers
    if request.blueprint not in WITHOUT_TABLES and not is_refused_anyway:
        service.require_usable_database()


@blp.route("/healthz", methods=["GET"])
@blp.response(200, HealthSchema)
def get_health() -> dict[str, str]:
    """Check that the process is alive.

    It uses no database: a process that answers needs no restart.
    """
    return {"status": "ok"}


@blp.route("/readyz", methods=["GET"])
@blp.response(200, HealthSchema)
def get_readiness() -> dict[str, str]:
    """Check that it can serve requests: the database answers, keeps what the service promises, and its schema is at
    least this version's.

    503 means: send requests to another process for now.
    """
    service.require_ready()
    return {"status": "ok"}


@blp.route("/metrics", methods=["GET"])
@blp.bearer_token
@blp.problems(404)
@blp.response(200, {"type": "string"}, content_type="text/plain")
def get_metrics() -> Response:
    """Get the metrics in Prometheus' text format; the bearer token is the setting METRICS_TOKEN.

    404 if the operator has not set METRICS_TOKEN.
    """
    expected = current_app.config["METRICS_TOKEN"]
    if not expected:
        raise NotFound("page here: METRICS_TOKEN is not set")
    if not hmac.compare_digest(bearer_token().encode(), expected.encode()):
        raise Unauthorized("The token is not METRICS_TOKEN.", error="invalid_token")
    from ..telemetry.exposition import CONTENT_TYPE, exposition

    return current_app.response_class(exposition(), content_type=CONTENT_TYPE)
