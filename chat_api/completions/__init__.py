"""Completions: a provider's replies in a conversation, streamed, resumable and never lost."""
