"""Transfer: all that a user owns as one file, and back; also from ChatGPT."""
