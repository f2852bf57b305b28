"""Completions, what they need of providers and configs, and how a message came to its end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0002"
down_revision = "0001"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")
RUNNING = sa.text("status = 'in_progress'")


def upgrade() -> None:
    prepare_distribution()
    extend_existing_tables()
    create_completions()
    create_completion_pieces()


def extend_existing_tables() -> None:
    steps.add_column(
        "messages", sa.Column("status", sa.String(16), nullable=False, server_default="completed")
    )
    steps.add_column("messages", sa.Column("tool_calls", sa.Text()))
    steps.add_column("messages", sa.Column("tool_call_id", sa.String(255)))
    steps.add_column(
        "llm_providers", sa.Column("api_format", sa.String(16), nullable=False, server_default="openai")
    )
    steps.add_column("llm_providers", sa.Column("context_window", sa.Integer()))
    steps.add_column("user_llm_configs", sa.Column("default_model", sa.String(255)))
    steps.add_column("user_llm_configs", sa.Column("context_window", sa.Integer()))


def create_completions() -> None:
    steps.create_table(
        "completions",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("parent_id", ID, nullable=False),
        sa.Column("branch_id", ID),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("provider_id", ID, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("finish_reason", sa.String(64)),
        sa.Column("problem", sa.Text()),
        sa.Column("prompt_tokens", sa.Integer()),
        sa.Column("completion_tokens", sa.Integer()),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False),
        sa.Column("omitted_messages", sa.Integer(), nullable=False),
        sa.Column("reasoning", sa.Text()),
        sa.Column("outline", sa.Text()),
        sa.Column("last_event_id", sa.BigInteger()),
        sa.Column("worker_id", ID, nullable=False),
        sa.Column("lease_expires_at", TIME, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_completions"),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="fk_completions_conversations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "parent_id"],
            ["messages.user_id", "messages.id"],
            name="fk_completions_messages",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "status IN ('in_progress', 'completed', 'incomplete', 'failed', 'cancelled')",
            name=op.f("ck_completions_status"),
        ),
    )
    steps.create_index(
        "ix_completions_user_id_conversation_id_id", "completions", ["user_id", "conversation_id", "id"]
    )
    steps.create_index(
        "uq_completions_running",
        "completions",
        ["user_id", "parent_id"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )


def create_completion_pieces() -> None:
    steps.create_table(
        "completion_pieces",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("completion_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("chunks", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "completion_id", "position", name="pk_completion_pieces"),
        sa.ForeignKeyConstraint(
            ["user_id", "completion_id"],
            ["completions.user_id", "completions.id"],
            name="fk_completion_pieces_completions",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("completion_pieces")
    steps.drop_table("completions")
    for table, column in (
        ("user_llm_configs", "context_window"),
        ("user_llm_configs", "default_model"),
        ("llm_providers", "context_window"),
        ("llm_providers", "api_format"),
        ("messages", "tool_call_id"),
        ("messages", "tool_calls"),
        ("messages", "status"),
    ):
        steps.drop_column(table, column)
