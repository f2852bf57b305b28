"""The full-text index: the words of messages, as both databases index them."""
