"""What the nodes of a Postgres keep of what the service promises: that commits are durable, and that waiting ends.

The service sets this for its own connections. Two things get past that: a pooler that drops the options of a
connection, and Citus, whose coordinator opens connections of its own to the other nodes, with the settings that the
role and the database have there.
"""

import logging
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from ..errors import database_errors, describe

PATIENCE_S = 3  # a node that is down must not take the time of those that ask

log = logging.getLogger(__name__)

_MS = "(extract(epoch FROM current_setting('{}')::interval) * 1000)::bigint"
_SETTINGS = (
    "SELECT json_build_object('synchronous_commit', current_setting('synchronous_commit'), "
    f"'lock_timeout', {_MS.format('lock_timeout')}, 'statement_timeout', {_MS.format('statement_timeout')})::text"
)
_HAS_CITUS = "EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
_HERE = sa.text(f"SELECT ({_SETTINGS}), current_user::text, current_database()::text, {_HAS_CITUS}")
_IS_COORDINATOR = sa.text("SELECT citus_is_coordinator()")
_EVERYWHERE = sa.text(
    "SELECT coalesce(n.nodename || ':' || n.nodeport, 'the coordinator'), r.success, r.result "
    "FROM run_command_on_all_nodes(:command) AS r LEFT JOIN pg_dist_node AS n USING (nodeid)"
).bindparams(command=_SETTINGS)


class Needed(NamedTuple):
    """What each node has to keep, in seconds."""

    lock_timeout_s: int
    statement_timeout_s: int

    def missing_in(self, settings: dict[str, Any]) -> dict[str, str]:
        """The settings that are not kept, each with the value that it needs."""
        missing = (
            {} if settings["synchronous_commit"] not in ("off", "local") else {"synchronous_commit": "on"}
        )
        for name, most_s in (
            ("lock_timeout", self.lock_timeout_s),
            ("statement_timeout", self.statement_timeout_s),
        ):
            if not 0 < settings[name] <= most_s * 1000:  # 0 is for ever
                missing[name] = f"{most_s}s"
        return missing


def problem_of(engine: sa.Engine, needed: Needed) -> str | None:
    """Why the database does not keep what the service promises, and what to do; None if it does.

    A node that does not answer is no problem: what is on the others can be served. Raises the database's errors.
    """
    # of its own, so that Citus opens its connections to the other nodes anew, with the settings of now
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        text, role, database, has_citus = connection.execute(_HERE).one()
        settings = orjson.loads(text)
        if not has_citus:
            missing = {"the server": needed.missing_in(settings)}
        elif not connection.scalar(_IS_COORDINATOR):
            return (
                "it is a worker node of a Citus cluster, where locks are not those of the coordinator; let "
                "DATABASE_URL lead to the coordinator."
            )
        else:
            missing = {
                "the coordinator": needed.missing_in(settings),
                **_missing_elsewhere(connection, needed),
            }
    changes = {name: value for values in missing.values() for name, value in values.items()}
    if not changes:
        return None
    for node, values in missing.items():
        if values:
            log.error("%s does not keep %s", node, ", ".join(values))
    quote = engine.dialect.identifier_preparer.quote
    change = f"ALTER ROLE {quote(role)} IN DATABASE {quote(database)} SET"
    commands = " ".join(f"{change} {name} = '{value}';" for name, value in changes.items())
    where = "each node that the log names" if has_citus else "the server"
    return f"it does not keep what this service promises. Run on {where}: {commands}"


def _missing_elsewhere(connection: sa.Connection, needed: Needed) -> dict[str, dict[str, str]]:
    """For each node of a Citus cluster what it does not keep."""
    missing = {}
    try:
        connection.exec_driver_sql(f"SET statement_timeout = '{PATIENCE_S}s'")
        for node, has_answered, result in connection.execute(_EVERYWHERE):
            if has_answered:
                missing[node] = needed.missing_in(orjson.loads(result))
            else:
                log.warning("the settings of %s are not known: %s", node, result)
    except database_errors() as error:
        log.warning("the settings of the nodes are not known: %s", describe(error))
    return missing
