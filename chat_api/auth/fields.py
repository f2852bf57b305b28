"""The field that names the owner of what a request creates."""

from typing import Any

from ..web.fields import IdField
from . import guard


class OwnerField(IdField):
    """The owner of a new object: the caller unless it says somebody else, which only some roles may."""

    def __init__(self, **kwargs: Any) -> None:
        description = (
            "The owner. Default: the caller. Only admins and service accounts may name another user."
        )
        super().__init__(
            required=False,
            load_default=lambda: guard.caller().user_id,
            metadata={"description": description},
            **kwargs,
        )
