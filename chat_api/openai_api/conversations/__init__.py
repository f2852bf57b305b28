"""/v1/conversations: conversations of /chat, whose items are those of their active path."""
