"""POST /chat/conversations: what is stored and answered, and what is refused."""

from tests.support.api import Api


def test_length_of_a_title_counts_characters(ada: Api) -> None:
    title = "😀" * 255
    assert ada.conversation(title)["title"] == title
