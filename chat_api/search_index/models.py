"""The table behind full-text search."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id
from ..database.session import Model


def _index_of_terms(name: str) -> sa.Index:
    """user_id is in the lexemes; on SQLite FTS5 does the index's work, and the condition leaves it empty."""
    return sa.Index(
        name,
        "terms",
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 256},
        sqlite_where=sa.text("terms IS NULL"),
    )


class MessageTerms(Model):
    """The words of one message, written with it and gone with it.

    Apart from `messages`, so that neither reading nor updating those carries the words along. On SQLite triggers keep
    the FTS5 table `message_index` equal to it (migration 0006).
    """

    __tablename__ = "message_terms"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"], ["messages.user_id", "messages.id"], ondelete="CASCADE"
        ),
        sa.Index(
            "uq_message_terms_number",
            "user_id",
            "number",
            unique=True,
            postgresql_where=sa.text("number IS NOT NULL"),  # no row of Postgres
        ),
        _index_of_terms("ix_message_terms_terms"),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    message_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # of the message in SQLite's FTS5, rising with its time; NULL on Postgres
    number: Mapped[int | None] = mapped_column(sa.BigInteger)
    terms: Mapped[str] = mapped_column(sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"))


class LongMessageTerms(Model):
    """Postgres: the words of a long message that its row of `message_terms` has no room for, in parts from 1 on.

    They belong to that row, so a release that knows no parts and writes it again leaves none that are older.
    """

    __tablename__ = "long_message_terms"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"],
            ["message_terms.user_id", "message_terms.message_id"],
            ondelete="CASCADE",
        ),
        # the long messages of a user in the order of their ids
        sa.Index(
            "ix_long_message_terms_first",
            "user_id",
            "message_id",
            postgresql_where=sa.text("part = 1"),
            sqlite_where=sa.text("part = 1"),
        ),
        _index_of_terms("ix_long_message_terms_terms"),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    message_id: Mapped[str] = mapped_column(Id, primary_key=True)
    part: Mapped[int] = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    terms: Mapped[str] = mapped_column(sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"))


class SearchBacklog(Model):
    """A user whose messages are not all indexed: those up to an id are still to do, from the newest to the oldest."""

    __tablename__ = "search_backlog"

    user_id: Mapped[str] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    upto_id: Mapped[str] = mapped_column(Id)
    # whether also what is indexed is to be written again
    replaces: Mapped[bool] = mapped_column(sa.Boolean)


class SearchUpdate(Model):
    """A message whose words are to be written again, since its documents have changed: soon, by the running service."""

    __tablename__ = "search_updates"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"], ["messages.user_id", "messages.id"], ondelete="CASCADE"
        ),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    message_id: Mapped[str] = mapped_column(Id, primary_key=True)
