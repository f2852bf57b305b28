"""The rules of the house as tests. A failure says what to do instead."""

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.completions.service import (
    CompletionRequest,
    create_completion_and_commit,
    prepare_completion,
)
from chat_api.database import drivers, postgres_driver
from chat_api.database.columns import new_id
from chat_api.database.session import Base, db
from config import Config
from tests.conftest import serving
from tests.support.api import Api
from tests.support.document import operations
from tests.support.provider import ScriptedProvider
from tests.support.tables import invite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chat_api"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = ROOT / "tests"
ANY_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"

PUBLIC_ENDPOINTS = {
    "auth.register": "makes the account",
    "auth.log_in": "gets the token",
    "operations.get_health": "requested by load balancers, reveals nothing",
    "operations.get_readiness": "requested by load balancers, reveals nothing",
    "documentation.get_openapi": "says what the source code says",
    "documentation.get_root": "leads to /docs",
    "swagger_ui.show": "shows the same to people",
    "openai_unprefixed": "tells clients that their base URL lacks /v1",
}
REFERENCE_TABLES = {
    "users": "the root that owner keys point at; email is unique over all users",
    "llm_providers": "a shared provider has no owner",
    "revoked_logins": "outlives an erased account, names nobody",
    "file_releases": "outlives an erased account; keyed by the owner all the same",
    "throttle_counters": "counts addresses and unknown accounts, names nobody",
}
INDEXES_WITHOUT_OWNER = {
    "ix_message_terms_terms": "a GIN index of Postgres; each of its lexemes begins with the owner's code",
    "ix_long_message_terms_terms": "the same for the other rows of long messages",
}
# From below: a package imports from lower layers, and in its own layer from its left. Loose modules have layers, too.
LAYERS = (
    ("errors", "keyring", "egress", "documents"),
    ("database", "web", "llm", "storage"),
    ("search_index", "telemetry", "server", "extensions"),
    ("files", "users", "idempotency"),
    ("auth",),
    ("llm_providers", "user_llm_configs", "conversations", "messages", "attachments", "completions"),
    ("search", "transfer", "usage", "openai_api", "ai_sdk"),
    ("operations",),
    ("problem_codes", "openapi"),
    ("factory",),
    ("__init__",),
)
HEIGHTS = {name: (layer, column) for layer, names in enumerate(LAYERS) for column, name in enumerate(names)}
LOOSE = {
    "__init__.py",
    "factory.py",
    "errors.py",
    "extensions.py",
    "openapi.py",
    "problem_codes.py",
    "keyring.py",
}
FOLDERS_OF_THE_WHOLE = {"live", "e2e"}  # in tests/: what runs against servers in processes of their own
TABLE_OWNERS = {
    mapper.class_.__tablename__: mapper.class_.__module__.split(".")[1] for mapper in Base.registry.mappers
}
# within a resource: a file imports from those of a lower rank, or from other services
RANKS = {"models": 0, "service": 1, "schemas": 1, "routes": 2}
# the modules of a resource that read requests and make responses
HTTP_MODULES = {
    "acceleration",
    "answering",
    "routes",
    "decorator",
    "downloads",
    "guard",
    "upload",
    "uploads",
}
# what runs in threads of completions: an error must neither end them silently nor keep one reply's from another's
BACKGROUND = {f"completions/{name}.py" for name in ("run", "registry", "supervisor", "finalize")}
# a thread that works for others, too, and hands them their errors
BACKGROUND |= {"database/batches.py"}
# what reads files that anybody may have made with a library that raises nearly anything, in a process of its own
HOSTILE_INPUT = {"documents/pdf.py"}


# -- the source ---------------------------------------------------------------------------------------------


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    """The package of a module, or the name of a loose one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports_of(path: Path) -> Iterator[tuple[list[str], str]]:
    """Absolute module path (as a list) and imported name of each import; the package itself is `chat_api`."""
    package = ["chat_api", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((name.name.split("."), name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            yield from ((module, name.name) for name in node.names)


def imported_rooms(path: Path) -> Iterator[tuple[str, str]]:
    """(package or loose module, file or name) of each import from our own code, such as ("users", "service")."""
    for module, name in imports_of(path):
        if module[0] == "chat_api":
            room, *rest = [*module[1:], name]
            yield room, rest[0] if rest else ""


COMMITS = {
    "commit",
    "transaction",
    "first_and_commit",
    "fetch_pipelined_and_commit",
    "write_each_and_commit",
    "write_together_and_commit",
    "end_pipelined_and_commit",
}


def committing_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and line of each function that commits: the session, by a transaction block, or by a statement."""
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute | ast.Name):
                    name = node.attr if isinstance(node, ast.Attribute) else node.id
                    if name in COMMITS:
                        yield function.name, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_what_commits_can_be_seen(path: Path) -> None:
    """On both roads: `db.session`, and compiled statements, which refuse a write outside a transaction."""
    commands = ("cli.py", "transfer_cli.py", "maintenance.py", "doctor.py")
    if path.name in ("routes.py", *commands) or relative(path) in (
        "idempotency/decorator.py",
        "database/engine.py",
        "database/statements.py",
    ):
        return
    for function, line in committing_functions(path):
        assert function.endswith("_and_commit"), (
            f"{relative(path)}:{line} commits in {function}. Commit once per request, in the view, as its last act. A "
            "write that must stand whatever becomes of its request has a name that ends in _and_commit."
        )


def is_below_the_views(path: Path) -> bool:
    """Whether a module belongs to a resource but is none of those that know HTTP."""
    layer = HEIGHTS.get(room_of(path), (0, 0))[0]
    return HEIGHTS["users"][0] <= layer <= HEIGHTS["operations"][0] and path.stem not in HTTP_MODULES


@pytest.mark.parametrize("path", [path for path in MODULES if is_below_the_views(path)], ids=relative)
def test_services_know_no_http(path: Path) -> None:
    for module, name in imports_of(path):
        is_flask = (
            module[0] == "flask" and module != ["flask", "cli"] and name not in ("Flask", "current_app")
        )
        is_response = module == ["chat_api", "web", "responses"] and not name.isupper()
        is_http = module[0] == "werkzeug" or is_flask or is_response
        assert not is_http, (
            f"{relative(path)} imports {name} from {'.'.join(module)}. Let the view read the request and make the "
            f"response, and hand plain values down; what decorates a view goes into one of {sorted(HTTP_MODULES)}."
        )


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "service.py"], ids=relative)
def test_services_take_keyword_arguments_only(path: Path) -> None:
    for function in parsed(path).body:
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            taken = function.args
            positional = [each.arg for each in (*taken.posonlyargs, *taken.args)] + (
                [taken.vararg.arg] if taken.vararg else []
            )
            assert not positional, (
                f"{relative(path)}:{function.lineno} {function.name} takes {positional} by position, where two ids are "
                "easily swapped: begin its parameters with `*`."
            )


PREDICATE = re.compile("_*(is|has|can|may|was|needs|takes|left)(_|$)")
MUTATORS = {"add", "append", "cancel", "clear", "close", "commit", "delete", "discard", "extend", "flush", "insert",
            "pop", "popitem", "remove", "set", "setdefault", "update"}  # fmt: skip


def effects_of(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a function changes, as far as its text says, apart from its own variables."""
    nodes = list(ast.walk(function))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = stored.difference(*(node.names for node in nodes if isinstance(node, ast.Global | ast.Nonlocal)))
    for node in nodes:
        changed: ast.expr | None = None
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            changed = node
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        ):
            changed = node.func.value
        if changed is not None and not (isinstance(changed, ast.Name) and changed.id in own):
            yield changed


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_predicates_change_nothing(path: Path) -> None:
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef) and PREDICATE.match(function.name):
            for changed in effects_of(function):
                pytest.fail(
                    f"{relative(path)}:{changed.lineno} {function.name} changes {ast.unparse(changed)}, though "
                    "its name asks a question. Name it by a verb that says what it does, or let the caller change it."
                )


@pytest.mark.parametrize(
    ("body", "acts"),
    [
        ("return self.seen", False),
        ("rest = []; rest.append(1); rest[0] = 2; return not rest", False),
        ("return self.state.get('seen')", False),
        ("self.seen = True", True),
        ("self.count += 1", True),
        ("self.state['seen'] = 1", True),
        ("del self.state['seen']", True),
        ("return self.reply.cancel()", True),
        ("global count; count = 1", True),
    ],
)
def test_effects_of_a_predicate_are_found(body: str, acts: bool) -> None:
    function = ast.parse(f"def is_seen(self): {body}").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert bool(list(effects_of(function))) is acts


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "routes.py"], ids=relative)
def test_routes_hold_no_sql(path: Path) -> None:
    assert all(module[0] != "sqlalchemy" for module, _ in imports_of(path)), (
        f"{relative(path)} imports SQLAlchemy. Put the statement into the resource's service and call that."
    )


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "schemas.py"], ids=relative)
def test_schemas_know_shapes_only(path: Path) -> None:
    for module, name in imports_of(path):
        # a constant of the models, such as the roles, is a shape
        looks_things_up = "extensions" in module or ("models" in module and not name.isupper())
        assert not looks_things_up, (
            f"{relative(path)} imports {name} from {'.'.join(module)}. A schema says what shape something has; "
            "look things up in the service."
        )


def test_every_package_has_a_layer() -> None:
    rooms = {room_of(path) for path in MODULES}
    assert rooms == set(HEIGHTS), (
        f"{sorted(rooms ^ set(HEIGHTS))} differ from LAYERS in {Path(__file__).name}. Put a new package on the lowest "
        "layer above all that it imports from, and take one that is gone out of the list."
    )


def test_loose_modules_are_few() -> None:
    found = {path.name for path in PACKAGE.glob("*.py")}
    assert found == LOOSE, (
        f"{sorted(found ^ LOOSE)}: put a module into the package that its readers would look in."
    )


def test_tests_mirror_the_packages() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    tested = {path.parent.name for path in TESTS.glob("*/test_*.py")} - FOLDERS_OF_THE_WHOLE
    assert tested == packages, (
        f"{sorted(tested ^ packages)}: give each package of chat_api a folder of its name in tests/, with the tests "
        "of what it does in it, and have no folder there that is named after nothing."
    )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_down(path: Path) -> None:
    own, rank = room_of(path), RANKS.get(path.stem)
    for room, file in imported_rooms(path):
        # views stand above the services of all resources
        is_from_above = path.stem == "routes" and file not in ("models", "schemas", "routes")
        assert room == own or HEIGHTS[room] < HEIGHTS[own] or is_from_above, (
            f"{relative(path)} imports from {room}, which is not below {own} in LAYERS. Move what both need to the "
            "lower one, hand it over as an argument, or let a package further up bring them together."
        )
        if rank is not None and file in RANKS:
            is_down = RANKS[file] < rank or (file == path.stem and room != own)
            assert is_down, (
                f"{relative(path)} imports {room}/{file}. routes -> service -> models, never back: pass the "
                "value as an argument."
            )


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) != "database"], ids=relative)
def test_tables_are_not_taken_from_the_metadata(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        is_back_door = isinstance(node, ast.Attribute) and node.attr in ("tables", "sorted_tables")
        assert not (is_back_door and ast.unparse(node.value).endswith("metadata")), (  # type: ignore[attr-defined]
            f"{relative(path)}:{getattr(node, 'lineno', 0)} takes a table from the metadata, past the package that "
            "owns it. Import the model from below, or call the owner's service from the view or a package further up; "
            "what is true of every owned table belongs into database/bulk.py."
        )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_sql_names_tables_of_lower_packages_only(path: Path) -> None:
    own = room_of(path)
    texts = [node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)]
    for text in texts:
        for table in re.findall(
            r"\b(?:FROM|JOIN|INTO|UPDATE)\s+([a-z_]+)", text if isinstance(text, str) else ""
        ):
            owner = TABLE_OWNERS.get(table, own)
            assert owner == own or HEIGHTS[owner] < HEIGHTS[own], (
                f"{relative(path)} has SQL on {table}, which belongs to {owner} above it. Call the owner's service "
                "from a package further up, or move the statement there."
            )


@pytest.mark.parametrize(
    "path",
    [*MODULES, ROOT / "wsgi.py", ROOT / "gunicorn.conf.py", *sorted((ROOT / "migrations").rglob("*.py"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_environment_is_read_in_config_only(path: Path) -> None:
    tree = parsed(path)
    set_names = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    may_set = path.name == "gunicorn.conf.py"
    for node in ast.walk(tree):
        reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and is_os(node.value)
        reads |= (
            isinstance(node, ast.ImportFrom) and node.module in ("os", "environs") and names_environment(node)
        )
        assert not reads or (may_set and id(node) in set_names), (
            f"{path.name}:{getattr(node, 'lineno', 0)} reads the environment. Add a field to config.Config and take "
            "it from `app.config`."
        )


def is_os(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "os"


def names_environment(node: ast.ImportFrom) -> bool:
    return any(name.name in ("environ", "getenv", "Env", "env") for name in node.names)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name != "egress"], ids=relative)
def test_outgoing_calls_go_through_the_gate(path: Path) -> None:
    callers = {"urllib3", "requests", "httpx", "httpx2", "aiohttp", "openai", "anthropic"}
    for module, name in imports_of(path):
        calls_out = module[0] in callers or [*module, name][:2] in (["http", "client"], ["urllib", "request"])
        assert not calls_out, (
            f"{relative(path)} imports {name} from {'.'.join(module)}. Send it through egress.gate.Gate, which "
            "looks at the address, follows no redirect and keeps to limits."
        )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_errors_py_catches_everything(path: Path) -> None:
    """`except BaseException` may clean up, if it raises again. In a background thread nobody else would catch it."""
    if relative(path) == "errors.py" or relative(path) in BACKGROUND | HOSTILE_INPUT:
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            last = node.body[-1]
            passes_on = caught == "BaseException" and isinstance(last, ast.Raise) and last.exc is None
            assert passes_on or caught not in ("Exception", "BaseException", "everything"), (
                f"{relative(path)}:{node.lineno} catches {caught}. Name the errors that you expect; errors.py "
                "answers the others with a 500 and logs them."
            )


def documented_settings() -> dict[str, str]:
    """The default of each setting, as docs/settings.md has it."""
    table = (ROOT / "docs" / "settings.md").read_text()
    return dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", table, re.MULTILINE))


@pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
def test_setting_is_documented_with_its_default(field: Any) -> None:
    default = field.default
    if isinstance(default, bool):
        default = str(default).lower()
    elif field.name == "DATA_DIR":
        default = Path(default).relative_to(ROOT)
    documented = {f"`{default}`"} if default not in ("", ()) else {"*(empty)*", "*(made in development)*"}
    assert documented_settings().get(field.name) in documented, (
        f"docs/settings.md has no row for {field.name} with its default: add "
        f"`| `{field.name}` | {min(documented)} | what it is for |`."
    )


def test_documented_settings_exist() -> None:
    gone = set(documented_settings()) - {field.name for field in fields(Config)}
    assert not gone, f"Remove {gone} from the table of docs/settings.md."


# -- the migrations -----------------------------------------------------------------------------------------

MIGRATIONS = sorted((ROOT / "migrations").rglob("*.py"))
REVISIONS = [path for path in MIGRATIONS if path.parent.name == "versions"]


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_migrations_import_nothing_of_the_service(path: Path) -> None:
    own = [module for module in imported_modules(path) if module.split(".")[0] in ("chat_api", "config")]
    assert not own, (
        f"{path.name} imports {own}. A revision says for ever what it did, and the service changes: copy the few lines "
        "that it needs. What takes long is a job of the service, such as the one in search/backlog.py."
    )


@pytest.mark.parametrize("path", REVISIONS, ids=lambda path: path.stem)
def test_revisions_consist_of_repeatable_steps(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        is_of_alembic = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("op", "context")
        name = node.attr if isinstance(node, ast.Attribute) else ""
        assert not is_of_alembic or name in ("f", "is_offline_mode"), (
            f"{path.name}:{getattr(node, 'lineno', 0)} calls alembic's {name}. An upgrade may be killed at any moment "
            "and is repeated then: take the step of that name from migrations/steps.py, or add one that is repeatable."
        )


# What a revision drops or renames that the release before it does not use any more: "0042 messages.name" -> since which
# release no code reads or writes it
CONTRACTIONS: dict[str, str] = {}


def steps_of_upgrade(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Name and call of each step that the file calls outside `downgrade`."""
    for function in parsed(path).body:
        if isinstance(function, ast.FunctionDef) and function.name != "downgrade":
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("steps."):
                    yield ast.unparse(node.func).removeprefix("steps."), node


def breaks_of(path: Path) -> Iterator[str]:
    """What of a revision the release before it can't work with, as far as that can be seen in the file."""
    for name, call in steps_of_upgrade(path):
        if name.startswith(("drop_", "rename_", "alter_")) and not name.startswith("drop_index"):
            names = [ast.unparse(argument).strip("'") for argument in call.args]
            if f"{path.stem[:4]} {'.'.join(names[:2])}" not in CONTRACTIONS:
                yield f"{name} {'.'.join(names[:2])}"
        elif name == "add_column":
            for column in ast.walk(call):
                options = column.keywords if isinstance(column, ast.Call) else []
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in options}
                if given.get("nullable") == "False" and "server_default" not in given:
                    yield f"add_column {ast.unparse(call)}"


@pytest.mark.parametrize("path", REVISIONS, ids=lambda path: path.stem)
def test_the_release_before_works_on_the_schema_of_a_revision(path: Path) -> None:
    assert list(breaks_of(path)) == [], (
        f"{path.name} has changes that the release before it can't work with, and that one goes on while machines are "
        "upgraded one after the other. Expand first: a new column has a server default or may be NULL. Contract a "
        "release after the one whose code stopped using a name, and add it to CONTRACTIONS with that release."
    )


@pytest.mark.parametrize(
    "step",
    [
        'steps.drop_column("messages", "status")',
        'steps.drop_table("messages")',
        'steps.rename_column("messages", "status", "state")',
        'steps.add_column("messages", sa.Column("note", sa.Text(), nullable=False))',
    ],
)
def test_changes_that_the_release_before_can_not_work_with_are_found(step: str, tmp_path: Path) -> None:
    path = tmp_path / "0099_break.py"
    path.write_text(f"def upgrade():\n    {step}\n\n\ndef downgrade():\n    pass\n")
    assert len(list(breaks_of(path))) == 1


# -- the tables ---------------------------------------------------------------------------------------------

TABLES = Base.metadata.tables
OWNED = sorted(set(TABLES) - set(REFERENCE_TABLES))


def test_reference_tables_exist() -> None:
    gone = set(REFERENCE_TABLES) - set(TABLES)
    assert not gone, f"Remove {gone} from REFERENCE_TABLES."


@pytest.mark.parametrize("name", OWNED)
def test_owned_table_is_keyed_by_its_owner(name: str) -> None:
    columns = [column.name for column in TABLES[name].primary_key.columns]
    assert columns[:1] == ["user_id"], (
        f"{name}'s primary key is {columns}. Every row belongs to a user: key it (user_id, id), as OwnedByUser does, "
        "or name it in REFERENCE_TABLES with a reason."
    )
    assert not TABLES[name].c.user_id.nullable


@pytest.mark.parametrize("name", OWNED)
def test_unique_constraints_and_indexes_begin_with_the_owner(name: str) -> None:
    table = TABLES[name]
    unique: list[Any] = [rule for rule in table.constraints if isinstance(rule, sa.UniqueConstraint)]
    for rule in [*unique, *table.indexes]:
        columns = [column.name for column in rule.columns]
        assert columns[0] == "user_id" or rule.name in INDEXES_WITHOUT_OWNER, (
            f"{name} has {columns}: put user_id first, as in every query's WHERE."
        )


@pytest.mark.parametrize("name", OWNED)
def test_foreign_keys_between_owned_tables_carry_the_owner(name: str) -> None:
    for key in TABLES[name].foreign_key_constraints:
        pairs = {element.parent.name: element.column.name for element in key.elements}
        if key.referred_table.name in OWNED:
            assert pairs.get("user_id") == "user_id", (
                f"{name} points at {key.referred_table.name} by {pairs}: make it composite, (user_id, parent_id) to "
                "(user_id, id), so that no row can point at another user's."
            )
        assert "SET NULL" not in (key.ondelete or "") + (key.onupdate or ""), (
            f"{name}'s key to {key.referred_table.name} sets NULL; that would empty user_id, too. Use CASCADE."
        )


@pytest.mark.parametrize("name", OWNED)
def test_owned_rows_go_with_their_owner(name: str) -> None:
    """By the foreign keys alone, straight from `users` or through a parent."""
    seen, pending = set(), [name]
    while pending:
        table = TABLES[pending.pop()]
        seen.add(table.name)
        parents = {
            key.referred_table.name for key in table.foreign_key_constraints if key.ondelete == "CASCADE"
        }
        pending += parents - seen
    assert "users" in seen, (
        f"Erasing an account leaves rows in {name}: add ON DELETE CASCADE to its owner or parent."
    )


# -- the routes ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def offline_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application without a database: whoever sends no token must not get as far as that."""
    folder = tmp_path_factory.mktemp("offline")
    url = f"sqlite:///{folder / 'missing' / 'chat.db'}"
    with serving(url, folder, METRICS_TOKEN="token-of-the-monitoring") as application:
        yield application


def test_every_route_but_the_public_ones_asks_for_a_token(offline_app: Flask) -> None:
    adapter = offline_app.url_map.bind("localhost")
    for rule in offline_app.url_map.iter_rules():
        if rule.endpoint in PUBLIC_ENDPOINTS:
            continue
        path = adapter.build(
            rule.endpoint, dict.fromkeys(rule.arguments, ANY_ID), method=next(iter(rule.methods or ()))
        )
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            response = Api(offline_app).request(method, path)
            got = (response.status_code, response.mimetype, response.headers.get("WWW-Authenticate"))
            kinds = {"v1": "application/json", "api": "text/plain"}  # of dialects
            kind = kinds.get(path.split("/")[1], "application/problem+json")
            assert got == (401, kind, "Bearer"), (
                f"{method} {path} without a token: {got}. Give its blueprint `before_request(guard.require_caller)`, "
                "or name the endpoint in PUBLIC_ENDPOINTS with a reason."
            )


def test_public_endpoints_exist(offline_app: Flask) -> None:
    gone = set(PUBLIC_ENDPOINTS) - {rule.endpoint for rule in offline_app.url_map.iter_rules()}
    assert not gone, f"Remove {gone} from PUBLIC_ENDPOINTS."


def test_the_document_knows_no_view_by_name(offline_app: Flask) -> None:
    source = (PACKAGE / "openapi.py").read_text()
    paths = Api(offline_app).get("/openapi.json").get_json()["paths"]
    operations = [
        value for item in paths.values() for method, value in item.items() if method != "parameters"
    ]
    names = {operation["operationId"] for operation in operations}
    assert len(names) > 30
    known = {name for name in names if re.search(rf"\b{name}\b", source)}
    assert not known, (
        f"openapi.py names {known}. Say at the view what is true of one endpoint, by a decorator of web.blueprint; "
        "openapi.py asks for properties that any endpoint may have."
    )


def happy_paths() -> Iterator[tuple[str, str]]:
    """(folder, operation) of each test that is marked as a happy path; conftest.py fails it unless that succeeds."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(parsed(path)):
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if (
                    isinstance(decorator, ast.Call)
                    and ast.unparse(decorator.func) == "pytest.mark.happy_path"
                ):
                    folder = path.relative_to(TESTS).parts[0]
                    yield from ((folder, ast.literal_eval(argument)) for argument in decorator.args)


def test_every_operation_has_a_happy_path_in_its_packages_tests(offline_app: Flask) -> None:
    packages = {
        endpoint.rpartition(".")[2]: view.__module__.split(".")[1]
        for endpoint, view in offline_app.view_functions.items()
        if view.__module__.startswith("chat_api.")
    }
    names = [operation["operationId"] for _, _, operation in operations(offline_app)]
    expected, found = {(packages[name], name) for name in names}, set(happy_paths())
    assert expected <= found, (
        f"No happy path of {sorted(expected - found)}: mark a test in tests/<package>/ that calls the operation as "
        'clients do and looks at the whole answer with @pytest.mark.happy_path("<operation>").'
    )
    assert found <= expected, f"{sorted(found - expected)}: no package has such an operation."


# -- the statements -----------------------------------------------------------------------------------------


@dataclass
class Filling:
    """How to add an item to a list, and where the list is."""

    path: str
    add: Callable[[Api, str], Any]


LISTS = {
    "list_conversations": Filling("/chat/conversations", lambda user, parent: user.conversation()),
    "list_messages": Filling(
        "/chat/conversations/{conversation}/messages", lambda user, parent: user.message(parent)
    ),
    "list_attachments": Filling(
        "/chat/messages/{message}/attachments", lambda user, parent: user.attachment(parent)
    ),
    "list_completions": Filling(
        "/chat/conversations/{conversation}/completions",
        lambda user, parent: user.completion(parent, user.user["provider_id"]),
    ),
    "list_providers": Filling("/chat/llm-providers", lambda user, parent: user.provider()),
    "list_configs": Filling(
        "/chat/user-llm-configs", lambda user, parent: user.config(user.provider()["id"])
    ),
    "list_tokens": Filling(
        "/auth/tokens", lambda user, parent: user.made("/auth/tokens", {"name": "script"})
    ),
    "list_invitations": Filling("/auth/invitations", lambda user, parent: {"id": invite(user)}),
    "search_messages": Filling(
        "/chat/search?q=hello&limit=100", lambda user, parent: user.message(user.conversation()["id"])
    ),
}


@contextmanager
def counting(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The SQL of all that is sent during the block, by SQLAlchemy and by compiled statements, by round trip."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
        sent.append(sql)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    with monkeypatch.context() as patch:
        kinds = (drivers.CursorConnection, postgres_driver.PreparedConnection)
        for kind, name in itertools.product(kinds, ("execute", "fetch")):
            original = getattr(kind, name)

            def noted(connection: Any, sql: str, *rest: Any, run: Any = original) -> Any:
                sent.append(sql)
                return run(connection, sql, *rest)

            patch.setattr(kind, name, noted)
        for name in ("fetch_all", "fetch_all_and_commit"):
            original = getattr(postgres_driver.PreparedConnection, name)

            def noted_together(connection: Any, calls: Any, run: Any = original, **options: Any) -> Any:
                sent.append("; ".join(sql for sql, _ in calls))
                return run(connection, calls, **options)

            patch.setattr(postgres_driver.PreparedConnection, name, noted_together)
        end = postgres_driver.PreparedConnection.end

        def noted_end(connection: Any, last: Any) -> Any:
            sent.append("; ".join([*(sql for sql, _ in last), "COMMIT"]))
            return end(connection, last)

        patch.setattr(postgres_driver.PreparedConnection, "end", noted_end)
        yield sent
    sa.event.remove(engine, "before_cursor_execute", note)


def fewest_statements(app: Flask, monkeypatch: pytest.MonkeyPatch, send: Callable[[], Any]) -> list[str]:
    """The statements of one request, when connections are open and the copy of ended logins is fresh."""
    tries = []
    for _ in range(5):
        with counting(app, monkeypatch) as sent:
            assert send().status_code < 300
        tries.append(sent)
    return min(tries, key=len)


def test_each_list_is_counted(app: Flask, stranger: Api) -> None:
    document = stranger.get("/openapi.json").get_json()
    reading = [path["get"] for path in document["paths"].values() if "get" in path]
    lists = {
        operation["operationId"]
        for operation in reading
        if any(parameter.get("name") == "limit" for parameter in operation["parameters"])
    }
    assert lists == set(LISTS), (
        "Say in LISTS how to add an item to each list, so that its statements are counted."
    )


@pytest.mark.parametrize("name", LISTS)
def test_list_takes_as_many_statements_for_thirty_items_as_for_ten(
    app: Flask, ada: Api, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    conversation = ada.conversation()["id"]
    ada.user["provider_id"] = ada.provider(api_endpoint=provider.url)["id"]
    ada.config(ada.user["provider_id"])
    ids = {"conversation": conversation, "message": ada.message(conversation)["id"]}
    path = LISTS[name].path.format(**ids)
    parent = next((value for key, value in ids.items() if f"{{{key}}}" in LISTS[name].path), "")
    counts = []
    for more in (10, 20):
        for _ in range(more):
            LISTS[name].add(ada, parent)
        counts.append(len(fewest_statements(app, monkeypatch, lambda: ada.get(path))))
    assert len(ada.get(path).get_json()) >= 30
    assert counts[0] == counts[1], f"{name} asks again for each item: fetch them all in one statement."


@pytest.mark.parametrize(
    ("send", "on_sqlite"),
    [
        pytest.param(
            lambda user, conversation: user.get(f"/chat/conversations/{conversation}"),
            1,
            id="get_conversation",
        ),
        pytest.param(
            lambda user, conversation: user.get(f"/chat/conversations/{conversation}/messages"),
            1,
            id="list_messages",
        ),
        pytest.param(
            lambda user, conversation: user.post(
                "/chat/messages", {"conversation_id": conversation, "role": "user", "content": "Hello"}
            ),
            5,  # BEGIN IMMEDIATE, the update that hands out the position, message, words, COMMIT
            id="create_message",
        ),
    ],
)
def test_hot_request_is_one_round_trip(
    app: Flask,
    backend: str,
    ada: Api,
    monkeypatch: pytest.MonkeyPatch,
    send: Callable[[Api, str], Any],
    on_sqlite: int,
) -> None:
    conversation = ada.conversation()["id"]
    ada.message(conversation)
    sent = fewest_statements(app, monkeypatch, lambda: send(ada, conversation))
    assert len(sent) == (1 if backend == "postgres" else on_sqlite), (
        f"Each round trip costs as much as the rest of the request; these were sent: {sent}"
    )


def test_completion_reads_in_one_round_trip_and_is_stored_in_two(
    app: Flask, backend: str, ada: Api, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id, provider_id = ada.conversation()["id"], ada.provider(api_endpoint=provider.url)["id"]
    ada.config(provider_id)
    request = CompletionRequest(
        user_id=ada.user["id"],
        conversation_id=conversation_id,
        provider_id=provider_id,
        model="m",
        content="Hello",
    )
    with app.app_context():
        prepare_completion(request=request)  # from now on the quotas are known
        with counting(app, monkeypatch) as sent:
            prepare_completion(request=request)
        reads = 1 if backend == "postgres" else 2
        assert len(sent) == reads, f"The first token waits for each round trip; these were sent: {sent}"
        with counting(app, monkeypatch) as sent:
            create_completion_and_commit(request=request, worker_id=new_id(), running_limit=1)
    if backend == "postgres":
        assert len(sent) == 3, f"The first token waits for each round trip; these were sent: {sent}"
