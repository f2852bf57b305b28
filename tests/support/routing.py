"""Whether Citus would send a statement to one shard, read from its SQL.

Citus routes a statement where each distributed table is restricted to one value of its distribution column, at the
level of the query that names it. What it makes of other statements was looked at on a real cluster (Citus 13.2 and
14.0): some go to every node, with a two-phase commit if they write, and some are refused.

- `user_id` compared as part of a row, or inside an expression such as `(…) IS TRUE`, restricts nothing.
- An INSERT in a CTE is planned apart from the rest: its rows are copied to all nodes first.
- An INSERT … SELECT that reads no distributed table goes through the coordinator by COPY, with a two-phase commit;
  one that does, and has RETURNING, is refused.
- A write to a reference table, of which each node has a copy, goes to all nodes; a lock of its rows does not.
- ANALYZE goes to all shards of a table.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import NamedTuple

import sqlglot
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlglot import exp

from chat_api.database.statements import Compiled, Statement
from tests.support.citus import DISTRIBUTED_BY, REFERENCE
from tests.support.statements_sent import Sent

_PSYCOPG = re.compile(r"%\((\w+)\)s")
_BULK = "rows that come from no distributed table: insert them by VALUES"
_WRITES = (exp.Insert, exp.Update, exp.Delete)
_NOTHING_TO_ROUTE = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|SHOW)\b", re.IGNORECASE)


class Meant(NamedTuple):
    """What goes to all nodes on purpose: of an endpoint, or a thread of the service ("*": of all), or a statement."""

    sender: str
    obstacle: str


_ALL_COPIES = (
    "Accounts are on every node, so that each can check keys that lead to them; few requests write them."
)
_PROVIDERS = (
    "Providers are on every node, as configs and replies of all users lead to them; few requests write them."
)
_LOGOUT = (
    "Ended logins are on every node: each request looks for them, so they are read from the nearest one."
)
_IMPORT = "An import stores rows by the thousand by COPY, which sends each row to the node of its user."
_CONFIGS = (
    "The configs of a provider are those of many users where it is shared, and its own row is on every node."
)
_SWEEP = "It looks for what others left behind, of all users, now and then; an index has these rows alone."

# Whoever adds a line here says why; `tests/test_routing.py` sends each of them, so none outlives its reason.
MEANT = {
    Meant("auth.register", "writes users, of which every node has a copy"): _ALL_COPIES,
    Meant("account.update_me", "writes users, of which every node has a copy"): _ALL_COPIES,
    Meant("account.delete_me", "writes users, of which every node has a copy"): _ALL_COPIES,
    Meant("account.update_me", "writes revoked_logins, of which every node has a copy"): _LOGOUT,
    Meant("account.delete_me", "writes revoked_logins, of which every node has a copy"): _LOGOUT,
    Meant("account.log_out", "writes revoked_logins, of which every node has a copy"): _LOGOUT,
    Meant("auth.refresh", "writes revoked_logins, of which every node has a copy"): _LOGOUT,
    Meant(
        "llm-providers.create_provider", "writes llm_providers, of which every node has a copy"
    ): _PROVIDERS,
    Meant(
        "llm-providers.update_provider", "writes llm_providers, of which every node has a copy"
    ): _PROVIDERS,
    Meant(
        "llm-providers.delete_provider", "writes llm_providers, of which every node has a copy"
    ): _PROVIDERS,
    Meant("transfer.import_all", "writes llm_providers, of which every node has a copy"): _PROVIDERS,
    Meant("llm-providers.update_provider", "no equality on user_llm_configs.user_id at its level"): _CONFIGS,
    Meant("llm-providers.delete_provider", "no equality on user_llm_configs.user_id at its level"): _CONFIGS,
    Meant("transfer.import_all", _BULK): _IMPORT,
    Meant("transfer.import_all", "ANALYZE"): "It follows an import of a thousand messages and more.",
}
# compiled statements, by their names
MEANT_STATEMENTS = {
    "users.service._CREATE_EXTERNAL": _ALL_COPIES,
    "llm_providers.learned_options._UPDATE": _PROVIDERS,
    "completions.finalize._ABANDONED": _SWEEP,
    "files.removal._ANY_RELEASED": _SWEEP,
}


# With Citus the search sends other statements, which `tests/test_routing.py` looks at.
_ON_POSTGRES_ALONE = {"search.search_messages"}


def unmeant(sent: Iterable[Sent]) -> set[Meant]:
    """What of all that was sent goes to all nodes, and is not meant to."""
    return {
        meant
        for each in sent
        if each.sender not in _ON_POSTGRES_ALONE and each.sql not in _sql_that_is_meant()
        for obstacle in obstacles(each.sql)
        if (meant := Meant(each.sender, obstacle)) not in MEANT
    }


@cache
def _sql_that_is_meant() -> set[str]:
    names = [name.rpartition(".") for name in MEANT_STATEMENTS]
    return {sql_on_citus(getattr(import_module(f"chat_api.{module}"), name)) for module, _, name in names}


def sql_on_citus(statement: Statement) -> str:
    """A compiled statement's SQL where the tables are distributed."""
    dialect = PGDialect_psycopg(paramstyle="numeric_dollar")
    return Compiled(statement.construct(True, lambda: True), dialect).sql


def advice(found: Iterable[str]) -> str:
    """What to do about obstacles."""
    return (
        f"{', '.join(found)}. So it would go to every node of a Citus cluster, or be refused. Name the user by an "
        "equality for each table and insert by VALUES, or say in tests/support/routing.py why not."
    )


@cache
def obstacles(sql: str) -> tuple[str, ...]:
    """What keeps Citus from routing a statement to one shard; nothing where it does, or where no table is its."""
    if _NOTHING_TO_ROUTE.match(sql):
        return ()
    if sql.startswith("ANALYZE"):
        return ("ANALYZE",)
    if sql.startswith("COPY"):
        return (_BULK,)
    statement = sqlglot.parse_one(_PSYCOPG.sub(r":\1", sql).replace("%%", "%"), read="postgres")
    return tuple(dict.fromkeys([*_of_writes(statement), *_of_level(statement, frozenset())]))


def _of_writes(statement: exp.Expr) -> Iterator[str]:
    for write in statement.find_all(*_WRITES):
        target = write.this.find(exp.Table)
        if target.name in REFERENCE:
            yield f"writes {target.name}, of which every node has a copy"
        if isinstance(write, exp.Insert):
            yield from _of_insert(write, target.name)


def _of_insert(insert: exp.Insert, table: str) -> Iterator[str]:
    if insert.find_ancestor(exp.CTE):
        yield f"INSERT INTO {table} in a CTE"
    if table not in DISTRIBUTED_BY:
        return
    if DISTRIBUTED_BY[table] not in [column.name for column in insert.this.expressions]:
        yield f"INSERT INTO {table} without {DISTRIBUTED_BY[table]}"
    if isinstance(insert.expression, exp.Values):
        return
    read = {each.name for each in insert.expression.find_all(exp.Table)}
    if not read & set(DISTRIBUTED_BY):
        yield _BULK
    elif insert.args.get("returning"):
        yield f"INSERT INTO {table} … SELECT … RETURNING"


def _of_level(query: exp.Expr, restricted: frozenset[str]) -> Iterator[str]:
    """Of a query and those inside it. `restricted` are the names of tables outside that are one user's."""
    sources = dict(_sources(query))
    equal = [pair for condition in _conjuncts(query) if (pair := _equality(condition, sources))]
    known = {name for name, table in sources.items() if table is None} | restricted
    while True:
        more = {
            name
            for name, other in [*equal, *((b, a) for a, b in equal if b)]
            if name not in known and (other is None or other in known)
        }
        if not more:
            break
        known |= more
    for name, table in sources.items():
        if table in DISTRIBUTED_BY and name not in known:
            yield f"no equality on {table}.{DISTRIBUTED_BY[table]} at its level"
    for inner in _inner_queries(query):
        yield from _of_level(inner, frozenset(known))


def _sources(query: exp.Expr) -> Iterator[tuple[str, str | None]]:
    """Names of what a query reads at its own level, with the table, or None for what a query inside it gives."""
    ctes = {cte.alias for cte in _ctes_in_sight(query)}
    target = query.this.find(exp.Table) if isinstance(query, exp.Insert) else None
    for node in _own_nodes(query):
        if isinstance(node, exp.Table) and node.name and node is not target:
            yield node.alias_or_name, None if node.name in ctes else node.name
        elif isinstance(node, exp.Subquery | exp.Lateral) and node.alias:
            yield node.alias, None


def _ctes_in_sight(query: exp.Expr | None) -> Iterator[exp.CTE]:
    while query is not None:
        found = query.args.get("with_") or query.args.get("with")
        if found is not None:
            yield from found.expressions
        query = query.parent


def _own_nodes(query: exp.Expr) -> Iterator[exp.Expr]:
    """The parts of a query that are of no query inside it."""
    pending = [query]
    while pending:
        node = pending.pop()
        yield node
        for child in node.iter_expressions():
            if not isinstance(child, exp.Query | exp.With | exp.Insert | exp.Update | exp.Delete):
                pending.append(child)
            elif isinstance(child, exp.Subquery):
                yield child


def _inner_queries(query: exp.Expr) -> Iterator[exp.Expr]:
    """The queries directly inside this one: its CTEs, subqueries, and the branches of a UNION."""
    pending = [query]
    while pending:
        for child in pending.pop().iter_expressions():
            if isinstance(child, exp.Select | exp.Insert | exp.Update | exp.Delete | exp.SetOperation):
                yield child
            else:
                pending.append(child)


def _conjuncts(query: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that all must hold: of WHERE, and of the joins."""
    if isinstance(query, exp.SetOperation):
        return
    where = query.args.get("where")
    joins = [join.args.get("on") for node in _own_nodes(query) for join in node.args.get("joins") or ()]
    for condition in [where and where.this, *joins]:
        if condition is not None:
            inner = condition.unnest()
            yield from inner.flatten() if isinstance(inner, exp.And) else [inner]


def _equality(condition: exp.Expr, sources: dict[str, str | None]) -> tuple[str, str | None] | None:
    """(name, other) of an equation of a distribution column: with another's, or with a value (None)."""
    condition = condition.unnest()
    if not isinstance(condition, exp.EQ):
        return None
    for side, opposite in ((condition.left, condition.right), (condition.right, condition.left)):
        name, other = _distributed(side, sources), _distributed(opposite, sources)
        if name is not None and (other is not None or not opposite.find(exp.Column, exp.Query)):
            return name, other
    return None


def _distributed(side: exp.Expr, sources: dict[str, str | None]) -> str | None:
    """The name of the source whose distribution column this is; that of a source outside, too."""
    if not isinstance(side, exp.Column):
        return None
    for name in [side.table] if side.table else list(sources):
        table = sources.get(name)
        if side.name == (DISTRIBUTED_BY.get(table, "") if table else "user_id"):
            return name
    return None
