"""A page with a chat, of a user of its own."""

from collections.abc import Callable

import pytest

from tests.ai_sdk.chatting import UiChat
from tests.support.api import Api
from tests.support.provider import ScriptedProvider


@pytest.fixture
def page(make_user: Callable[..., Api], provider: ScriptedProvider) -> UiChat:
    return UiChat.open(make_user(), provider)
