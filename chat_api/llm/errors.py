"""Errors specific to LLM providers, in addition to those of any outgoing call (`egress.errors`)."""

from ..egress.errors import Failed
from . import error_codes
from .events import Corrected


class ProviderError(Failed):
    """The provider reported an error. `code` says of which kind it is, see `error_codes`.

    `retry_after_s` is what the provider said about when to try again, None if it said nothing.
    """

    def __init__(
        self, detail: str, *, code: str = error_codes.FAILED, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after_s = retry_after_s
        self.lesson: Corrected | None = None  # what it says about the options of later requests
