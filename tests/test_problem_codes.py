"""The list of codes is closed: it has every code of the service and no other, and the documents repeat it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import default_exceptions

from chat_api import errors
from chat_api.egress.errors import Cancelled, EgressError
from chat_api.llm.error_codes import ERROR_CODES as PROVIDER_CODES
from chat_api.problem_codes import OWN_CODES, problem_codes
from chat_api.server import refusals
from tests.support.api import Api

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path: path.read_text() for path in sorted((ROOT / "chat_api").rglob("*.py"))}
ROW = re.compile(r"\| (\d{3}) \| `([a-z_-]+)` \| (.+) \|")


def kinds_of(kind: type[Any]) -> Iterator[type[Any]]:
    """A class and all that derive from it."""
    yield kind
    for child in kind.__subclasses__():
        yield from kinds_of(child)


def written_codes() -> Iterator[str]:
    """The codes in calls that make a problem, and in classes of errors, as far as they are written there."""
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("problem", "problem_body"):
                code = node.args[1]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield code.value


def test_every_error_has_a_code_of_the_list(app: Flask) -> None:
    codes = problem_codes()
    for kind in kinds_of(errors.ApiError):
        assert codes[kind.code][0] == kind.status, kind
    for egress in kinds_of(EgressError):
        assert egress.code in PROVIDER_CODES or egress is Cancelled
    for code in written_codes():
        assert code in codes


def test_codes_of_the_framework_and_of_servers_are_in_the_list() -> None:
    codes = problem_codes()
    assert {errors.code_of_status(status) for status in default_exceptions} <= codes.keys()
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    in_nginx = set(re.findall(r'"code":"([^"]+)"', nginx))
    assert in_nginx
    assert in_nginx <= codes.keys()
    for _, status, _ in refusals._ANSWERS:
        assert re.search(r'"code": "([a-z_-]+)"', refusals_body(status))[1] in codes  # type: ignore[index]


def refusals_body(status: int) -> str:
    kinds = next(kinds for kinds, known, _ in refusals._ANSWERS if known == status)
    kind = kinds[0] if isinstance(kinds, tuple) else kinds
    return refusals.Refusal(kind.__new__(kind), None).answer.decode()


@pytest.mark.parametrize("code", OWN_CODES)
def test_every_code_is_used(code: str) -> None:
    uses = [
        path for path, source in SOURCES.items() if f'"{code}"' in source and path.name != "problem_codes.py"
    ]
    assert uses, f"Nothing uses {code}."


def table_of(name: str, heading: str) -> dict[str, tuple[int, str]]:
    section = (ROOT / "docs" / name).read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    return {code: (int(status), meaning) for status, code, meaning in ROW.findall(section)}


def test_documents_have_the_list(stranger: Api) -> None:
    assert table_of("http.md", "Codes") == OWN_CODES
    providers = {code: (known.status, known.meaning) for code, known in PROVIDER_CODES.items()}
    assert table_of("api.md", "Errors of providers") == providers
    schema = stranger.get("/openapi.json").get_json()["components"]["schemas"]["ProblemCode"]
    assert schema["enum"] == list(problem_codes())
    for code, (status, meaning) in problem_codes().items():
        assert f"| `{code}` | {status} | {meaning} |" in schema["description"]
