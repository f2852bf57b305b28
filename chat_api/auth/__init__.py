"""Accounts: who calls, and how they prove it."""
