"""What happens around every request: its id, the headers of all answers, its log line and its metrics."""

import logging
import re
import secrets
import time

from flask import Flask, Response, g, request

from . import metrics

log = logging.getLogger("chat_api.request")

# long enough for any tracing system's id, and nothing that could break a header or a log
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}\Z")


def init_app(app: Flask) -> None:
    """Register the hooks. `begin` runs before any guard, so that even a 404 has an id."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.started_s = time.perf_counter()
    sent = request.environ.get("HTTP_X_REQUEST_ID")
    g.request_id = sent if sent and _SANE_ID.match(sent) else secrets.token_hex(16)


def _end(response: Response) -> Response:
    duration_s = time.perf_counter() - g.started_s
    headers = response.headers
    headers.set("X-Request-ID", g.request_id)
    headers.set("X-Content-Type-Options", "nosniff")
    if "Cache-Control" not in headers:
        headers.set("Cache-Control", "no-store")
    rule = request.url_rule
    route = rule.rule if rule is not None else None
    metrics.count(request.method, route, response.status_code, duration_s)
    if log.isEnabledFor(logging.INFO):
        caller = g.get("caller")
        line = {
            "method": request.method,
            "route": route,
            "status": response.status_code,
            "duration_ms": round(duration_s * 1000, 2),
            "request_id": g.request_id,
            "user_id": caller.user_id if caller else None,
        }
        if caller and caller.actor_id != caller.user_id:
            line["actor_id"] = caller.actor_id
        log.info("request", extra=line)
    return response
