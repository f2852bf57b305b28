"""Backup and restore of Postgres: a ZIP file with what COPY says of each table, in one snapshot.

The schema is not in it: it is what the migrations make of its revision. `pg_dump` is not needed, which the machine may
not have, or not in the server's version.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import psycopg
from flask import current_app
from psycopg import sql

from ..database.columns import TIME_FORMAT, now
from ..database.session import db
from .backup_report import BackupError, Progress, Report, require_empty, require_known, require_same

FORMAT, VERSION = "chat-api backup of Postgres", 1
MANIFEST = "manifest.json"
LEVEL = 1  # of compression: three times as fast as the default, and a fifth larger
BLOCK_BYTES = 1024 * 1024

# the service's own tables in the schema of the connection, without those of extensions
_TABLES = """
    SELECT class.relname, array_agg(attribute.attname::text ORDER BY attribute.attnum)
    FROM pg_class AS class JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind IN ('r', 'p')
      AND attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attgenerated = ''
      AND class.relname <> 'alembic_version' AND NOT class.relispartition
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = class.oid AND deptype = 'e')
    GROUP BY class.relname ORDER BY class.relname
"""
_PARENTS = """
    SELECT child.relname, parent.relname FROM pg_constraint AS key
    JOIN pg_class AS child ON child.oid = key.conrelid JOIN pg_class AS parent ON parent.oid = key.confrelid
    WHERE key.contype = 'f' AND child.oid <> parent.oid
      AND child.relnamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: list[str]

    @property
    def entry(self) -> str:
        """The name in the file."""
        return f"tables/{self.name}"

    def copy(self, direction: str) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("COPY {} ({}) {}").format(sql.Identifier(self.name), columns, sql.SQL(direction))


def write(path: Path, progress: Progress) -> Report:
    """Write all tables of one snapshot into an empty file, and verify it. Writers are neither seen nor kept waiting."""
    with _connected() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        tables = _tables(connection)
        revision = _revision(connection)
        if revision is None:
            raise BackupError("The database has no schema.")
        expected = _rows(connection, tables)
        _write_file(path, connection, tables, revision, expected, progress)
    require_same(expected, _counted(path))
    return Report(revision, expected)


def read(path: Path, progress: Progress, *, overwrite: bool, known_revisions: Sequence[str]) -> Report:
    """Fill the database with the backup, in one transaction. A database without a schema gets that of the backup."""
    manifest = _manifest(path)
    revision = require_known(manifest["revision"], known_revisions)
    expected = {table["name"]: int(table["rows"]) for table in manifest["tables"]}
    require_same(expected, _counted(path))
    with _connected() as connection:
        found = _revision(connection)
    if found is None:
        from flask_migrate import upgrade  # in a server Alembic is not loaded

        upgrade(directory=str(Path(current_app.root_path).parent / "migrations"), revision=revision)
        found = revision
    if found != revision:
        raise BackupError(
            f"The backup has schema {revision}, the database has {found}. Create a new database without tables, point "
            "DATABASE_URL at it, and restore there; --overwrite does not help."
        )
    with _connected() as connection:
        tables = _tables(connection)
        require_empty(_rows(connection, tables), overwrite=overwrite)
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        _fill(path, connection, tables, manifest, progress)
        require_same(expected, _rows(connection, tables))
    with _connected() as connection:
        connection.autocommit = True
        connection.execute("ANALYZE")
    return Report(revision, expected)


@contextmanager
def _connected() -> Iterator[psycopg.Connection[Any]]:
    """A connection whose statements may take as long as they do; its transaction is committed at the block's end."""
    wait_s = current_app.config["DATABASE_WAIT_S"]
    arguments, options = db.engine.dialect.create_connect_args(db.engine.url)
    limits = {"statement_timeout": 0, "idle_in_transaction_session_timeout": 0, "lock_timeout": f"{wait_s}s"}
    settings = {
        "connect_timeout": wait_s,
        "application_name": "chat-api-backup",
        "client_encoding": "utf-8",
        "options": " ".join(f"-c {name}={value}" for name, value in ({"timezone": "UTC"} | limits).items()),
    }
    with psycopg.connect(*arguments, **{**options, **settings}) as connection:
        yield connection


def _tables(connection: psycopg.Connection[Any]) -> list[_Table]:
    """All tables, each after those that its foreign keys point at."""
    tables = {name: _Table(name, columns) for name, columns in connection.execute(_TABLES)}
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(tables, ()))
    for child, parent in connection.execute(_PARENTS):
        order.add(child, parent)
    return [tables[name] for name in order.static_order() if name in tables]


def _revision(connection: psycopg.Connection[Any]) -> str | None:
    [exists] = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() or (False,)
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if exists else None
    return row[0] if row else None


def _rows(connection: psycopg.Connection[Any], tables: list[_Table]) -> dict[str, int]:
    counts = {}
    for table in tables:
        statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
        [counts[table.name]] = connection.execute(statement).fetchone() or (0,)
    return counts


def _write_file(
    path: Path,
    connection: psycopg.Connection[Any],
    tables: list[_Table],
    revision: str,
    rows: dict[str, int],
    progress: Progress,
) -> None:
    done, total = 0, sum(rows.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "revision": revision,
            "created_at": now().strftime(TIME_FORMAT),
            "tables": [
                {"name": table.name, "columns": table.columns, "rows": rows[table.name]} for table in tables
            ],
        }
        file.writestr(MANIFEST, json.dumps(manifest, indent=1))
        for table in tables:
            with (
                file.open(table.entry, "w", force_zip64=True) as entry,
                connection.cursor().copy(table.copy("TO STDOUT")) as copy,
            ):
                block = bytearray()
                for row in copy:  # COPY sends each row by itself
                    block += row
                    if len(block) >= BLOCK_BYTES:
                        entry.write(block)
                        done += block.count(b"\n")
                        progress(done, total)
                        block.clear()
                entry.write(block)
                done += block.count(b"\n")
                progress(done, total)


def _manifest(path: Path) -> dict[str, Any]:
    """What the file says of itself. Raises BackupError where it is no such backup."""
    try:
        with zipfile.ZipFile(path) as file:
            manifest = json.loads(file.read(MANIFEST))
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise BackupError("The file is a backup in a newer format.")
        return dict(manifest)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
        raise BackupError("The file is not a backup of Postgres, or is incomplete.") from None


def _counted(path: Path) -> dict[str, int]:
    """The rows of each table in the file; reading it to its end checks the sums of the ZIP file, too."""
    counts = {}
    try:
        with zipfile.ZipFile(path) as file:
            for table in _manifest(path)["tables"]:
                with file.open(f"tables/{table['name']}") as entry:
                    counts[table["name"]] = sum(
                        block.count(b"\n") for block in iter(lambda: entry.read(BLOCK_BYTES), b"")
                    )
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error):
        raise BackupError("The backup is damaged.") from None
    return counts


def _fill(
    path: Path,
    connection: psycopg.Connection[Any],
    tables: list[_Table],
    manifest: dict[str, Any],
    progress: Progress,
) -> None:
    """Copy the tables into the database, parents before children."""
    columns = {table["name"]: table["columns"] for table in manifest["tables"]}
    if columns.keys() != {table.name for table in tables}:
        raise BackupError("The backup has other tables than the database.")
    done, total = 0, sum(table["rows"] for table in manifest["tables"])
    with zipfile.ZipFile(path) as file:
        for table in tables:
            statement = _Table(table.name, columns[table.name]).copy("FROM STDIN")
            with file.open(table.entry) as entry, connection.cursor().copy(statement) as copy:
                while block := entry.read(BLOCK_BYTES):
                    copy.write(block)
                    done += block.count(b"\n")
                    progress(done, total)
