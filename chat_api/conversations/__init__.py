"""Conversations: what messages belong to."""
