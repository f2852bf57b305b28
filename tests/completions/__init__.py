"""Replies of a scripted provider, asked for over the API on both databases."""
