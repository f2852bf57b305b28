"""Operator commands: `flask users`, `keys`, `purge`, `doctor`, `retention`, `search`; and `flask demo-provider`."""

from datetime import timedelta
from uuid import UUID

import click
import orjson
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext

from config import fresh_secrets

from ..auth import service as auth
from ..auth.schemas import RegisterSchema
from ..database.bulk import with_rests
from ..database.columns import TIME_FORMAT, now
from ..database.session import db
from ..files import texts
from ..users import service as users_service
from ..users.models import ROLES
from ..web.blueprint import load
from . import maintenance
from .command_errors import uses_database
from .doctor import DESCRIPTIONS, Doctor
from .erasure import erase_account
from .terminal import echo

users = AppGroup("users", help="Create and erase accounts, and change their roles.")
search = AppGroup("search", help="Maintain the full-text search index.")
keys = AppGroup("keys", help="Generate secrets, and re-encrypt stored secrets.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(users)
    app.cli.add_command(keys)
    app.cli.add_command(search)
    app.cli.add_command(purge)
    app.cli.add_command(delete_old_conversations)
    app.cli.add_command(examine)
    app.cli.add_command(serve_demo_provider)


@users.command("create")
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option(
    "--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Prompted for if not given."
)
@uses_database
def create_user(email: str, role: str, password: str) -> None:
    """Create a local account; the only way to create an admin or a service account."""
    credentials = load(RegisterSchema(), {"email": email, "password": password})
    user = auth.register_with_role(**credentials, role=role)
    db.session.commit()
    echo(f"Created {role} {user.email} with id {user.id}.")


@users.command("set-role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
@uses_database
def set_role(email: str, role: str) -> None:
    """Change a user's role and log the user out everywhere."""
    user = auth.set_role(email=email, role=role)
    db.session.commit()
    echo(f"{user.email} now has the role {role}, and has to log in again.")


@users.command("delete")
@click.argument("email")
@click.confirmation_option(prompt="This erases the account and everything it owns. Continue?")
@uses_database
def delete_user(email: str) -> None:
    """Erase an account and everything it owns."""
    user_id = users_service.get_user_by_email(email=email).id
    db.session.rollback()  # on SQLite it holds the lock
    for _ in with_rests(erase_account(user_id=user_id)):
        db.session.commit()
    echo(f"Erased {email}.")


@keys.command("generate")
def generate_keys() -> None:
    """Print new values for JWT_SECRET_KEY and ENCRYPTION_KEYS."""
    click.echo(fresh_secrets())


@keys.command("rotate")
@uses_database
def rotate_keys() -> None:
    """Re-encrypt all stored secrets with the first of ENCRYPTION_KEYS; the service may be running."""
    rotated, current, broken = maintenance.rotate_secrets()
    echo(f"Rotated {rotated}, already current {current}, can't be opened {broken}.")
    if broken:
        raise click.ClickException(
            "Some secrets can't be decrypted with any of ENCRYPTION_KEYS: add the old key again."
        )


@keys.command("check")
@uses_database
def check_keys() -> None:
    """Count the stored secrets that ENCRYPTION_KEYS can't open; fails if there are any."""
    total = broken = 0
    for found, unreadable in maintenance.count_secrets():
        total, broken = total + found, broken + unreadable
    echo(f"Stored secrets: {total}, can't be opened {broken}.")
    if broken:
        raise click.ClickException(
            "Some stored secrets can't be opened with any of ENCRYPTION_KEYS: put the old key back, or ask the "
            "affected users to store their provider keys again."
        )


@search.command("rebuild")
@uses_database
def rebuild_search() -> None:
    """Index all messages again; the service may be running. An interrupted rebuild is continued."""
    messages = 0
    for count in maintenance.rebuild_search():
        if count is None:
            click.echo("\rThe service is indexing already; waiting for it.", nl=False, err=True)
            continue
        messages += count
        click.echo(f"\rIndexed {messages} messages", nl=False, err=True)
    click.echo(f"\rIndexed {messages} messages.")


@search.command("documents")
@click.option("--again", is_flag=True, help="Have the service retry those that failed.")
@uses_database
def count_documents(again: bool) -> None:
    """Count the uploads by what became of their texts; the service extracts them."""
    if again:
        with db.engine.begin() as connection:
            echo(f"To be tried again: {texts.forget_failures(connection)}.")
    counts = texts.count_states()
    echo(", ".join(f"{state} {count}" for state, count in sorted(counts.items())) or "There are no uploads.")


@click.command("purge")
@with_appcontext
@uses_database
def purge() -> None:
    """Delete expired rows: idempotency keys, recent requests, ended logins, rate-limit counters, tokens, used links.

    Also finishes what was interrupted: deletions of accounts, conversations and files, and imports older than a day.
    """
    echo(f"Deleted {maintenance.purge_expired()} expired rows.")


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Repair what can be repaired; without it nothing is changed.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
@click.option(
    "--after", type=click.UUID, help="Continue after this user, whose id an interrupted run has printed."
)
@with_appcontext
@uses_database
def examine(repair: bool, as_json: bool, after: UUID | None) -> None:
    """Look for counters, paths, search rows and others that do not agree; the service may be running.

    Fails if something was found and not repaired. It deletes nothing but rows whose owner or parent row is gone.
    """
    examination = Doctor(repairs=repair)
    last = str(after) if after else None
    try:
        for user_id in examination.examine_and_commit(after=last):
            last = user_id
    except KeyboardInterrupt:
        if last:
            echo(f"Interrupted; go on with --after {last}", err=True)
        raise
    if as_json:
        click.echo(orjson.dumps(examination.findings, option=orjson.OPT_INDENT_2).decode())
    else:
        for kind, finding in examination.findings.items():
            ids = f" ({', '.join(finding.examples)})" if finding.examples else ""
            echo(f"{kind}: {finding.found} found, {finding.repaired} repaired: {DESCRIPTIONS[kind]}{ids}")
    if not examination.is_clean:
        advice = "see docs/deployment.md for what --repair can't do" if repair else "`--repair` repairs it"
        raise click.ClickException(f"Something was found that is not repaired; {advice}.")


@click.command("retention")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing.")
@with_appcontext
@uses_database
def delete_old_conversations(dry_run: bool) -> None:
    """Delete conversations that were not used for RETENTION_DAYS, except pinned ones."""
    days: int = current_app.config["RETENTION_DAYS"]
    if not days:
        raise click.ClickException("RETENTION_DAYS is 0, so no conversation is deleted.")
    used_before = now() - timedelta(days=days)
    expired = maintenance.list_old_conversations if dry_run else maintenance.delete_old_conversations
    conversations = messages = 0
    for conversation in expired(used_before):
        conversations, messages = conversations + 1, messages + conversation.message_count
        if dry_run:
            used_at = conversation.updated_at.strftime(TIME_FORMAT)
            echo(
                f"{conversation.id} of user {conversation.user_id}, last used {used_at}, "
                f"messages: {conversation.message_count}"
            )
    done = "Would delete" if dry_run else "Deleted"
    echo(f"{done} {conversations} conversations with {messages} messages, last used over {days} days ago.")


@click.command("demo-provider")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="0 takes any free one."
)
@click.option("--words-per-second", type=click.FloatRange(0.1, 1000), default=20, show_default=True)
def serve_demo_provider(host: str, port: int, words_per_second: float) -> None:
    """Serve a local model that repeats the prompt, to try streamed replies without a provider's account."""
    from ..llm.demo_provider import CannotListen, DemoProvider

    try:
        server = DemoProvider(host, port, words_per_second=words_per_second, report=echo)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error
    with server:
        echo(f'Model "echo" at {server.base_url} (openai or anthropic, any key). Ctrl-C stops it.')
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            echo("Stopped.")
