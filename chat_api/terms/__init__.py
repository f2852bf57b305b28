"""Terms: the words of messages as both databases index them."""
