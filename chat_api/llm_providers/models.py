"""The table of providers: small and read by all users, so a reference table on distributed Postgres."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, new_id, now
from ..database.session import Model

_IS_SHARED = sa.text("owner_id IS NULL")


class LLMProvider(Model):
    """A provider of one user or, without an owner, one that an admin shares with all users."""

    __tablename__ = "llm_providers"
    __table_args__ = (
        sa.Index(None, "owner_id", "id"),
        # NULL differs from NULL: of the shared ones, which have no owner, the other index keeps two apart
        sa.Index("uq_llm_providers_slug", "owner_id", "slug", unique=True),
        sa.Index(
            "uq_llm_providers_shared_slug",
            "slug",
            unique=True,
            sqlite_where=_IS_SHARED,
            postgresql_where=_IS_SHARED,
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str | None] = mapped_column(Id, sa.ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(sa.String(255))
    # its name in the names of models; NULL where the release before has added it
    slug: Mapped[str | None] = mapped_column(sa.String(63))
    api_endpoint: Mapped[str] = mapped_column(sa.String(2048))
    # its protocol, see llm.request.API_FORMATS
    api_format: Mapped[str] = mapped_column(sa.String(16), default="openai", server_default="openai")
    # in tokens; None if not given
    context_window: Mapped[int | None] = mapped_column(sa.Integer)
    # which vendor it was made from, see llm/vendors
    catalog: Mapped[str | None] = mapped_column(sa.String(64))
    # how it gets the key: "bearer", or the name of a header; None: as its vendor has it
    auth: Mapped[str | None] = mapped_column(sa.String(64))
    # additional headers, JSON that is encrypted like keys
    encrypted_headers: Mapped[str | None] = mapped_column(sa.Text)
    # fields of every request, JSON
    extra_body: Mapped[str | None] = mapped_column(sa.Text)
    # changes of llm.options.RequestOptions, JSON
    request_options: Mapped[str | None] = mapped_column(sa.Text)
    # the same, by model, as its server has complained; JSON
    learned_options: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
