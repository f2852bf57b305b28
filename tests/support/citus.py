"""How Citus distributes the tables, and a Postgres that takes itself for a Citus cluster.

Citus itself is no package: its extension is in no wheel and not in Debian. The one of its name here refuses what Citus
refuses in migrations and writes down the rest. Its nodes are databases of the same server, which it asks by connections
of their own, as Citus does; each has the settings that its role and its database give it.
"""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

import chat_api
from chat_api.database.session import db

REFERENCE = {"users", "revoked_logins", "llm_providers"}
for _path in Path(chat_api.__path__[0]).glob("*/models.py"):  # tables are known once they are imported
    importlib.import_module(f"chat_api.{_path.parent.name}.models")
_OTHERS = {"throttle_counters": "key", "file_releases": "owner_id"}
# the column by which each table is distributed; those that are copied to every node are left out
DISTRIBUTED_BY = {name: _OTHERS.get(name, "user_id") for name in db.metadata.tables if name not in REFERENCE}

CONTROL = "default_version = '1.0'\nrelocatable = false\n"
EXTENSION = r"""
CREATE SCHEMA citus;

CREATE TABLE pg_catalog.pg_dist_node (
    nodeid int PRIMARY KEY, nodename text, nodeport int, database name DEFAULT current_database());
CREATE FUNCTION pg_catalog.citus_is_coordinator() RETURNS bool LANGUAGE sql AS
    $$ SELECT current_setting('citus.is_worker', true) IS DISTINCT FROM 'yes' $$;
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(
    command text, parallel bool DEFAULT true, give_warning_for_connection_errors bool DEFAULT false,
    OUT nodeid int, OUT success bool, OUT result text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    node record; psql text; folder text := current_setting('unix_socket_directories');
BEGIN
    SELECT setting || '/psql' INTO psql FROM pg_config() WHERE name = 'BINDIR';
    CREATE TEMP TABLE IF NOT EXISTS said (line text);
    FOR node IN SELECT * FROM pg_dist_node LOOP
        DELETE FROM said;
        BEGIN
            EXECUTE format('COPY said FROM PROGRAM %L', format('%s -h %s -U %s -d %s -Atc %s', psql, folder,
                current_user, node.database, '''' || replace(command, '''', '''\''''') || ''''));
            RETURN QUERY SELECT node.nodeid, true, string_agg(line, ' ') FROM said;
        EXCEPTION WHEN external_routine_exception THEN
            RETURN QUERY SELECT node.nodeid, false, SQLERRM;
        END;
    END LOOP;
END $$;
CREATE TABLE citus.calls (
    number int GENERATED ALWAYS AS IDENTITY, name text PRIMARY KEY, kind text, distributed_by text, colocation text);

CREATE FUNCTION citus.check_table(called regclass, reference boolean, by_column text, colocation text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    by_number smallint; has_rows boolean; broken text;
BEGIN
    IF current_setting('citus.multi_shard_modify_mode', true) IS DISTINCT FROM 'sequential' THEN
        RAISE EXCEPTION 'cannot change reference and distributed tables in parallel in one transaction';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', called) INTO has_rows;
    IF has_rows THEN RAISE EXCEPTION 'table % is not empty', called; END IF;
    IF NOT reference THEN
        SELECT attnum INTO STRICT by_number FROM pg_attribute WHERE attrelid = called AND attname = by_column;
        SELECT string_agg(indexrelid::regclass::text, ', ') INTO broken
            FROM pg_index WHERE indrelid = called AND indisunique AND NOT by_number = ANY (indkey);
        IF broken IS NOT NULL THEN RAISE EXCEPTION 'unique % lacks the distribution column', broken; END IF;
    END IF;
    SELECT string_agg(conname, ', ') INTO broken FROM pg_constraint AS c
        LEFT JOIN citus.calls AS parent ON parent.name = c.confrelid::regclass::text
        WHERE c.contype = 'f' AND c.conrelid = called AND c.confrelid <> called
        AND (parent.kind = 'reference' OR NOT reference AND parent.kind = 'distributed'
             AND parent.colocation = check_table.colocation AND EXISTS (
                 SELECT FROM unnest(c.conkey, c.confkey) AS pair(own, theirs)
                 JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = pair.theirs
                 WHERE pair.own = by_number AND a.attname = parent.distributed_by)) IS NOT TRUE;
    IF broken IS NOT NULL THEN RAISE EXCEPTION 'foreign key % leads where it must not', broken; END IF;
    SELECT string_agg(conname, ', ') INTO broken FROM pg_constraint
        WHERE contype = 'f' AND conrelid = called AND confdeltype IN ('n', 'd') AND by_number = ANY (conkey);
    IF broken IS NOT NULL THEN RAISE EXCEPTION 'foreign key % sets the distribution column', broken; END IF;
END $$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.check_table(table_name, false, distribution_column, colocate_with);
    INSERT INTO citus.calls (name, kind, distributed_by, colocation)
        VALUES (table_name::text, 'distributed', distribution_column, colocate_with);
END $$;

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.check_table(table_name, true, NULL, NULL);
    INSERT INTO citus.calls (name, kind) VALUES (table_name::text, 'reference');
END $$;

CREATE FUNCTION citus.check_change() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('citus.multi_shard_modify_mode', true) IS DISTINCT FROM 'sequential' THEN
        RAISE EXCEPTION 'cannot execute DDL because there was a parallel DDL access in the same transaction';
    END IF;
END $$;
CREATE EVENT TRIGGER changes ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'DROP TABLE', 'DROP INDEX')
    EXECUTE FUNCTION citus.check_change();
"""


@contextmanager
def citus_extension(url: str) -> Iterator[None]:
    """Give an empty database the extension, whose files are there during the block."""
    with tempfile.TemporaryDirectory(prefix="chat-api-citus-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "extension").mkdir()
        (folder / "extension" / "citus.control").write_text(CONTROL)
        (folder / "extension" / "citus--1.0.sql").write_text(EXTENSION)
        for path in (folder, folder / "extension"):
            path.chmod(0o755)  # the server may be another user
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"SET extension_control_path = '{folder}:$system'".encode())
            connection.execute("SET allow_system_table_mods = on")
            connection.execute("CREATE EXTENSION citus")
        yield
