"""The conditions by which statements name a conversation, its messages and its active path."""

from typing import Any

import sqlalchemy as sa

from ..conversations.models import IS_VISIBLE, Conversation, is_in_visible
from ..database.parameters import CONVERSATION_ID, USER_ID
from .models import Message

IN_VISIBLE = is_in_visible(Message.user_id, Message.conversation_id)
IN_CONVERSATION = (Message.user_id == USER_ID, Message.conversation_id == CONVERSATION_ID)
# as the partial index has it, and of no type: for a Boolean SQLAlchemy writes `= 1` on SQLite, which that does not
# take for the same
ON_PATH: sa.ColumnElement[Any] = sa.literal_column("messages.on_path")
THIS_CONVERSATION = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID, IS_VISIBLE)
# whether `path_length` is that of the active path
IS_COUNTED = Conversation.counted_leaf_id.is_not_distinct_from(Conversation.active_leaf_id)
