"""Generated clients: each is generated from the served document, type-checked, and drives every operation."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from chat_api.llm.demo_provider import DemoProvider
from tests.e2e.node import TIMEOUT_S, installed, node_command, run
from tests.live.client import serving
from tests.support.api import PASSWORD
from tests.support.server import GunicornServer

SOURCES = Path(__file__).parent / "clients"
ADMIN, METRICS_TOKEN = "admin@example.org", "metrics-0123456789abcdef"
# the first test installs and generates everything, which takes a minute
pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.fixture(scope="module")
def folder() -> Path:
    """The generators and drivers."""
    target = installed(SOURCES)
    shutil.rmtree(target / "generated", ignore_errors=True)
    return target


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoProvider]:
    server = DemoProvider("127.0.0.1", 0, words_per_second=1000, report=lambda text: None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[GunicornServer]:
    with serving({"METRICS_TOKEN": METRICS_TOKEN}) as running:
        running.run_flask("users", "create", ADMIN, "--role", "admin", "--password", PASSWORD)
        yield running


@pytest.fixture(scope="module")
def document(folder: Path, server: GunicornServer) -> Path:
    """The document as it is served."""
    with urlopen(f"{server.base_url}/openapi.json") as response:
        (folder / "openapi.json").write_bytes(response.read())
    return folder / "openapi.json"


@pytest.fixture(scope="module")
def generated(folder: Path, document: Path) -> Path:
    """The clients: openapi-typescript's, @hey-api/openapi-ts's, orval's, and a Postman collection."""
    (folder / "generated").mkdir()
    node = node_command()
    run([*node, "node_modules/.bin/openapi-typescript", document.name, "-o", "generated/types.ts"], folder)
    run([*node, "generate.mjs", document.name, "generated"], folder)
    run(
        ["openapi-python-client", "generate", "--path", document.name, "--output-path", "generated/python",
         "--meta", "none", "--overwrite"], folder,
    )  # fmt: skip
    return folder / "generated"


def settings(server: GunicornServer, provider: DemoProvider, document: Path) -> dict[str, str]:
    return {
        "BASE_URL": server.base_url,
        "PROVIDER": provider.base_url,
        "DOCUMENT": str(document),
        "METRICS_TOKEN": METRICS_TOKEN,
        "ADMIN": ADMIN,
        "PASSWORD": PASSWORD,
    }


def test_spectral_has_no_warnings(folder: Path, document: Path) -> None:
    command = ["node_modules/.bin/spectral", "lint", "--fail-severity", "warn", "--ruleset", ".spectral.yaml"]
    run([*node_command(), *command, document.name], folder)


def test_redocly_has_no_errors(folder: Path, document: Path) -> None:
    run([*node_command(), "node_modules/.bin/redocly", "lint", document.name], folder)


def test_every_pattern_is_one_of_javascript(folder: Path, document: Path) -> None:
    script = """
        const patterns = [];
        const walk = found => {
          if (typeof found?.pattern === "string") patterns.push(found.pattern);
          if (found && typeof found === "object") Object.values(found).forEach(walk);
        };
        walk(JSON.parse(require("fs").readFileSync("openapi.json", "utf8")));
        patterns.forEach(pattern => new RegExp(pattern, "u"));
        console.log(patterns.length);
    """
    assert int(run([*node_command(), "--eval", script], folder)) > 50


def test_the_page_finds_the_ids_of_own_objects(folder: Path) -> None:
    """/docs sends the id of an object that was made there, else that of a list, else the one of the example."""
    script = """
        const {OwnIds} = require(process.env.SCRIPT);
        const id = kind => `019ab2c4-5d6e-7f80-8000-00000000000${kind}`;
        const lists = {"/auth/me": {id: "me"}, "/chat/conversations?limit=1": [{id: "first"}],
                       "/chat/conversations/first/messages?limit=1": [{id: "hello"}],
                       "/chat/llm-providers?limit=1": []};
        (async () => {
          const ids = new OwnIds(async path => lists[path] ?? null);
          const found = [await ids.put(`/${id(1)}/${id(2)}/${id(3)}/${id(5)}/${id(5)}`)];
          ids.note("/chat/conversations", 201, {id: "made"});
          found.push(await ids.put(id(2)));
          ids.note("/chat/conversations/made", 204, null);
          found.push(await ids.put(id(2)));
          console.log(JSON.stringify(found));
        })();
    """
    page = str(SOURCES.parents[2] / "chat_api/templates/docs.js")
    provider_id = "019ab2c4-5d6e-7f80-8000-000000000005"
    assert json.loads(run([*node_command(), "--eval", script], folder, SCRIPT=page)) == [
        f"/me/first/hello/{provider_id}/{provider_id}",
        "made",
        "first",
    ]


def test_generated_typescript_has_no_type_errors(folder: Path, generated: Path) -> None:
    run([*node_command(), "node_modules/.bin/tsc", "--project", "."], folder)


@pytest.mark.parametrize("driver", ["openapi-fetch.ts", "hey-api.ts"])
def test_a_typescript_client_drives_every_operation(
    folder: Path,
    generated: Path,
    document: Path,
    server: GunicornServer,
    provider: DemoProvider,
    driver: str,
) -> None:
    printed = run([*node_command(), driver], folder, **settings(server, provider, document))
    report = json.loads(printed.strip().splitlines()[-1])
    assert (report["failed"], report["missing"]) == ([], [])
    assert report["calls"] > 50


def test_the_python_client_has_no_type_errors_and_drives_every_operation(
    folder: Path, generated: Path, document: Path, server: GunicornServer, provider: DemoProvider
) -> None:
    # client.py is the generator's own text, the same for every document, and has errors of its own
    checked = run([sys.executable, "-m", "mypy", "--explicit-package-bases", "--exclude", "client[.]py",
                   "--follow-imports", "silent", "drive.py", "generated/python"], folder)  # fmt: skip
    assert "Success" in checked
    printed = run([sys.executable, "drive.py"], folder, **settings(server, provider, document))
    report = json.loads(printed.strip().splitlines()[-1])
    assert (report["failed"], report["missing"]) == ([], [])
