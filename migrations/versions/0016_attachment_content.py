"""The content of attachments: files by their hash, uploads that wait for their message, and files to be removed."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0016"
down_revision = "0015"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def stored_file_key(table: str, **options: str | bool) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id", "file_id"],
        ["stored_files.user_id", "stored_files.id"],
        name=f"fk_{table}_stored_files",
        **options,
    )


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("messages", sa.Column("parts", sa.Text))
    steps.create_table(
        "stored_files",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("file_type", sa.String(255), nullable=False),
        sa.Column("text_state", sa.String(64)),
        sa.Column("last_used_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_stored_files"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_stored_files_users", ondelete="CASCADE"),
        sa.UniqueConstraint("user_id", "sha256", name="uq_stored_files_user_id_sha256"),
    )
    steps.create_table(
        "attachment_files",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("file_name", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_attachment_files"),
        sa.ForeignKeyConstraint(
            ["user_id", "id"],
            ["attachments.user_id", "attachments.id"],
            name="fk_attachment_files_attachments",
            ondelete="CASCADE",
        ),
        stored_file_key("attachment_files", deferrable=True, initially="DEFERRED"),
    )
    steps.create_index(
        "ix_attachment_files_user_id_message_id", "attachment_files", ["user_id", "message_id"]
    )
    steps.create_index("ix_attachment_files_user_id_file_id", "attachment_files", ["user_id", "file_id"])
    steps.create_table(
        "attachment_drafts",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("file_name", sa.String(255), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_attachment_drafts"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_attachment_drafts_users", ondelete="CASCADE"
        ),
        stored_file_key("attachment_drafts", deferrable=True, initially="DEFERRED"),
    )
    steps.create_index("ix_attachment_drafts_user_id_file_id", "attachment_drafts", ["user_id", "file_id"])
    steps.create_table(
        "file_releases",
        sa.Column("owner_id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "file_id", name="pk_file_releases"),
        owner="owner_id",
    )
    steps.create_table(
        "attachment_texts",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "file_id", name="pk_attachment_texts"),
        stored_file_key("attachment_texts", ondelete="CASCADE"),
    )


def downgrade() -> None:
    prepare_distribution()
    for table in (
        "attachment_texts",
        "file_releases",
        "attachment_drafts",
        "attachment_files",
        "stored_files",
    ):
        steps.drop_table(table)
    steps.drop_column("messages", "parts")
