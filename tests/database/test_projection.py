"""The JSON of rows: the same whether all columns are read, or some are known."""

from typing import Any

import pytest

from chat_api.conversations.models import CONVERSATION, CONVERSATION_OF_KEY, CONVERSATION_OF_USER
from chat_api.database.projection import Projection
from chat_api.messages.models import MESSAGE, MESSAGE_OF_CONVERSATION

MESSAGE_VALUES: dict[str, Any] = {
    "id": "m",
    "conversation_id": "c",
    "parent_id": None,
    "position": 1,
    "role": "assistant",
    "content": "Hello",
    "status": "completed",
    "created_at": "2026-11-29T12:00:00.000000Z",
}
CONVERSATION_VALUES: dict[str, Any] = {
    "id": "c",
    "user_id": "u",
    "title": "A title",
    "archived": 1,
    "pinned": 0,
    "message_count": 2,
    "active_leaf_id": None,
    "client_metadata": '{"a":"b"}',
    "source": "native",
    "created_at": "2026-11-29T12:00:00.000000Z",
    "updated_at": "2026-11-29T12:00:01.000000Z",
}
CASES = [
    (MESSAGE, MESSAGE_OF_CONVERSATION, ("conversation_id",), MESSAGE_VALUES),
    (MESSAGE, MESSAGE_OF_CONVERSATION, ("conversation_id",), MESSAGE_VALUES | {"tool_calls": '[{"id":"t"}]'}),
    (MESSAGE, MESSAGE_OF_CONVERSATION, ("conversation_id",), MESSAGE_VALUES | {"tool_call_id": "t"}),
    (CONVERSATION, CONVERSATION_OF_USER, ("user_id", "archived"), CONVERSATION_VALUES),
    (CONVERSATION, CONVERSATION_OF_KEY, ("user_id", "id"), CONVERSATION_VALUES | {"client_metadata": None}),
]


@pytest.mark.parametrize(("whole", "partial", "known", "values"), CASES)
def test_known_columns_stand_where_read_ones_would(
    whole: Projection, partial: Projection, known: tuple[str, ...], values: dict[str, Any]
) -> None:
    assert set(whole.names) - set(partial.names) == set(known)
    size = 425  # rows may go on after the columns
    of_known = partial.to_json_with(*(values[name] for name in known))
    got = of_known((*(values.get(name) for name in partial.names), size))
    expected = whole.to_json((*(values.get(name) for name in whole.names), size))
    assert list(got.items()) == list(expected.items())


def test_what_is_optional_stands_at_the_end_and_only_where_it_is_something() -> None:
    json = MESSAGE.of(MESSAGE_VALUES | {"sources": "[]", "tool_calls": '[{"id":"t"}]'})
    assert list(json)[8:] == ["tool_calls", "sources"]
    assert json["tool_calls"] == [{"id": "t"}]
    assert list(MESSAGE.of(MESSAGE_VALUES)) == list(MESSAGE_VALUES)


def test_flags_and_objects_are_what_json_has() -> None:
    json = CONVERSATION.of(CONVERSATION_VALUES)
    assert json["archived"] is True
    assert json["pinned"] is False
    assert json["metadata"] == {"a": "b"}
    assert CONVERSATION.of(CONVERSATION_VALUES | {"client_metadata": None})["metadata"] == {}
