"""Commands of the operator: `flask users`, `keys`, `purge`, `retention`, `search`; and `flask demo-provider`."""

from datetime import timedelta

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext

from config import fresh_secrets

from ..auth import service as auth
from ..auth.schemas import RegisterSchema
from ..database.columns import TIME_FORMAT, now
from ..database.session import db
from ..errors import ApiError
from ..users import service as users_service
from ..users.models import ROLES
from ..web.blueprint import load
from . import maintenance

users = AppGroup("users", help="Make accounts and change their roles.")
search = AppGroup("search", help="Look after the index of full-text search.")
keys = AppGroup("keys", help="Make secrets, and re-encrypt what is stored.")


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(users)
    app.cli.add_command(keys)
    app.cli.add_command(search)
    app.cli.add_command(purge)
    app.cli.add_command(delete_old_conversations)
    app.cli.add_command(serve_demo_provider)


@users.command("create")
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option(
    "--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for if not given."
)
def create_user(email: str, role: str, password: str) -> None:
    """Make a local account; the only way to an admin or a service account."""
    with cli_errors():
        credentials = load(RegisterSchema(), {"email": email, "password": password})
        user = auth.register_with_role(**credentials, role=role)
        db.session.commit()
    click.echo(f"Made {role} {user.email} with id {user.id}.")


@users.command("set-role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
def set_role(email: str, role: str) -> None:
    """Change a user's role; their logins end."""
    with cli_errors():
        user = auth.set_role(email=email, role=role)
        db.session.commit()
    click.echo(f"{user.email} is {role} now, and has to log in again.")


@users.command("delete")
@click.argument("email")
@click.confirmation_option(prompt="This erases the account and all that it owns. Go on?")
def delete_user(email: str) -> None:
    """Erase an account and all that it owns."""
    with cli_errors():
        auth.delete_account(user_id=users_service.require_by_email(email=email).id)
        db.session.commit()
    click.echo(f"Erased {email}.")


@keys.command("generate")
def generate_keys() -> None:
    """Print a new value for JWT_SECRET_KEY and for ENCRYPTION_KEYS."""
    click.echo(fresh_secrets())


@keys.command("rotate")
def rotate_keys() -> None:
    """Encrypt all stored secrets again under the first of ENCRYPTION_KEYS, while the service runs."""
    rotated, current, broken = maintenance.rotate_secrets()
    click.echo(f"Rotated {rotated}, already current {current}, can't be opened {broken}.")
    if broken:
        raise click.ClickException("Some secrets open with none of ENCRYPTION_KEYS: put the old key back.")


@search.command("rebuild")
def rebuild_search() -> None:
    """Index all messages again, while the service runs: after an upgrade by script, or one that says so."""
    messages = 0
    for count in maintenance.rebuild_search():
        messages += count
        click.echo(f"\rIndexed {messages} messages", nl=False, err=True)
    click.echo(f"\rIndexed {messages} messages.")


@click.command("purge")
@with_appcontext
def purge() -> None:
    """Delete what has expired: idempotency keys, ended logins, counters, tokens."""
    click.echo(f"Deleted {maintenance.purge_expired()} expired rows.")


@click.command("retention")
@click.option("--dry-run", is_flag=True, help="Delete nothing; tell what would go.")
@with_appcontext
def delete_old_conversations(dry_run: bool) -> None:
    """Delete conversations that nobody used for RETENTION_DAYS, but for pinned ones."""
    days: int = current_app.config["RETENTION_DAYS"]
    if not days:
        raise click.ClickException("RETENTION_DAYS is 0: conversations are kept, however old.")
    used_before = now() - timedelta(days=days)
    go_through = maintenance.list_old_conversations if dry_run else maintenance.delete_old_conversations
    conversations = messages = 0
    for gone in go_through(used_before):
        conversations, messages = conversations + 1, messages + gone.message_count
        if dry_run:
            used_at = gone.updated_at.strftime(TIME_FORMAT)
            click.echo(
                f"{gone.id} of user {gone.user_id}, last used {used_at}, messages: {gone.message_count}"
            )
    done = "Would delete" if dry_run else "Deleted"
    click.echo(
        f"{done} {conversations} conversations with {messages} messages, last used over {days} days ago."
    )


@click.command("demo-provider")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True)
@click.option("--words-per-second", type=click.FloatRange(0.1, 1000), default=20, show_default=True)
def serve_demo_provider(host: str, port: int, words_per_second: float) -> None:
    """Serve a local model that repeats what it is told, to see streamed replies without an account anywhere."""
    from ..llm.demo_provider import CannotListen, DemoProvider

    try:
        server = DemoProvider(host, port, words_per_second=words_per_second, report=click.echo)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error
    with server:
        click.echo(f'Model "echo" at {server.base_url} (openai or anthropic, any key). Ctrl-C stops it.')
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped.")


class cli_errors:
    """Turns our errors into a line for the operator."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ApiError):
            texts = [text for found in error.extra.get("errors", {}).values() for text in found]
            raise click.ClickException(" ".join(texts) or error.detail) from error
