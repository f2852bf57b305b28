"""What every refusal of the service looks like."""

from typing import Any

from werkzeug.test import TestResponse


def assert_problem(response: TestResponse, status: int, *fields: str) -> dict[str, Any]:
    """The answer is a problem of RFC 9457 with this status, about these fields."""
    text = response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.mimetype == "application/problem+json"
    problem = response.get_json()
    assert problem["status"] == status
    assert all(isinstance(problem[name], str) for name in ("type", "title", "code", "detail", "request_id"))
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert set(problem.get("errors", {})) == set(fields), text
    for messages in problem.get("errors", {}).values():
        assert messages
        assert all(isinstance(message, str) for message in messages)
    for forbidden in ("Traceback", "sqlalchemy", "psycopg", "sqlite", "SELECT", "INSERT", "/chat_api/"):
        assert forbidden not in text
    return problem
