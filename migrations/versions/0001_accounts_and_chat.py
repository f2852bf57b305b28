"""Accounts, conversations, messages, attachments, providers and keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0001"
down_revision = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    create_users()
    create_accounts()
    create_providers()
    create_chat()
    create_idempotency_keys()


def create_users() -> None:
    steps.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("issuer", sa.String(255)),
        sa.Column("subject", sa.String(255)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.UniqueConstraint("issuer", "subject", name="uq_users_issuer_subject"),
        sa.CheckConstraint("role IN ('user', 'admin', 'service')", name=op.f("ck_users_role")),
        owner=None,
    )


def create_accounts() -> None:
    steps.create_table(
        "logins",
        *owner_columns("logins"),
        sa.Column("refresh_token_id", ID, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    steps.create_table(
        "personal_access_tokens",
        *owner_columns("personal_access_tokens"),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    steps.create_table(
        "revoked_logins",
        sa.Column("login_id", ID, nullable=False),
        sa.Column("revoked_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("login_id", name="pk_revoked_logins"),
        owner=None,
    )
    steps.create_index("ix_revoked_logins_revoked_at", "revoked_logins", ["revoked_at"])
    steps.create_table(
        "throttle_counters",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_throttle_counters"),
        owner="key",
        colocate_with="none",
    )
    steps.create_index("ix_throttle_counters_expires_at", "throttle_counters", ["expires_at"])


def create_providers() -> None:
    steps.create_table(
        "llm_providers",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner_id", ID),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("api_endpoint", sa.String(2048), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_llm_providers"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="fk_llm_providers_users", ondelete="CASCADE"
        ),
        owner=None,
    )
    steps.create_index("ix_llm_providers_owner_id_id", "llm_providers", ["owner_id", "id"])
    steps.create_table(
        "user_llm_configs",
        *owner_columns("user_llm_configs"),
        sa.Column("provider_id", ID, nullable=False),
        sa.Column("sealed_api_key", sa.Text(), nullable=False),
        sa.Column("api_key_hint", sa.String(4), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("user_id", "provider_id", name="uq_user_llm_configs_user_id_provider_id"),
        sa.ForeignKeyConstraint(
            ["provider_id"],
            ["llm_providers.id"],
            name="fk_user_llm_configs_llm_providers",
            ondelete="CASCADE",
        ),
    )


def create_chat() -> None:
    steps.create_table(
        "conversations",
        *owner_columns("conversations"),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    steps.create_table(
        "messages",
        *child_columns("messages", "conversations", "conversation_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("attachment_count", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint(
            "user_id", "conversation_id", "position", name="uq_messages_user_id_conversation_id_position"
        ),
        sa.CheckConstraint(
            "role IN ('system', 'developer', 'user', 'assistant', 'tool')", name=op.f("ck_messages_role")
        ),
    )
    steps.create_table(
        "attachments",
        *child_columns("attachments", "messages", "message_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("file_type", sa.String(255), nullable=False),
        sa.Column("file_path", sa.String(1024), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint(
            "user_id", "message_id", "position", name="uq_attachments_user_id_message_id_position"
        ),
    )


def create_idempotency_keys() -> None:
    steps.create_table(
        "idempotency_keys",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("location", sa.String(255)),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_idempotency_keys_users", ondelete="CASCADE"
        ),
    )
    steps.create_index(
        "ix_idempotency_keys_user_id_created_at", "idempotency_keys", ["user_id", "created_at"]
    )


def owner_columns(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    """The key of a table at the top of a user's tree."""
    return (
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_users", ondelete="CASCADE"),
    )


def child_columns(table: str, parent: str, parent_id: str) -> tuple[sa.schema.SchemaItem, ...]:
    """The key of a table below another, and the composite key that keeps both with one user."""
    return (
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column(parent_id, ID, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            ["user_id", parent_id],
            [f"{parent}.user_id", f"{parent}.id"],
            name=f"fk_{table}_{parent}",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    prepare_distribution()
    for table in (
        "idempotency_keys",
        "attachments",
        "messages",
        "conversations",
        "user_llm_configs",
        "llm_providers",
        "throttle_counters",
        "revoked_logins",
        "personal_access_tokens",
        "logins",
        "users",
    ):
        steps.drop_table(table)
