"""Search: the caller's messages by the words in them."""
