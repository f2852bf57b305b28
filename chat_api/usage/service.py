"""What a user has stored, of everything that is limited, beside its limit."""

from typing import TypedDict

from ..attachments import service as attachments
from ..auth import service as auth
from ..auth.tokens import MAX_PERSONAL_TOKENS
from ..completions import service as completions
from ..conversations import service as conversations
from ..idempotency import service as idempotency
from ..llm_providers import service as llm_providers
from ..user_llm_configs import service as user_llm_configs
from ..users import service as users
from ..users.quotas import limit_of

TOKENS = "tokens"
_LIMITED = (
    conversations.QUOTAS,
    attachments.QUOTAS,
    attachments.FILE_QUOTAS,
    attachments.DRAFT_QUOTAS,
    completions.QUOTAS,
    llm_providers.QUOTAS,
    user_llm_configs.QUOTAS,
    idempotency.QUOTAS,
)


class Use(TypedDict):
    """What is used of a quota, and how much may be."""

    used: int
    limit: int


def get_usage(*, user_id: str) -> dict[str, Use]:
    """The use of each quota, by its name. Raises NotFound if the user was deleted."""
    users.require_user(user_id=user_id)
    usage = {
        quota.name: Use(used=used, limit=limit_of(quota))
        for limited in _LIMITED
        for quota, used in limited.read_use(user_id=user_id)
    }
    usage[TOKENS] = Use(used=auth.count_tokens(user_id=user_id), limit=MAX_PERSONAL_TOKENS)
    return usage
