"""Talks to LLM providers: one gate for all outgoing calls, one adapter for each protocol. Knows no Flask, no database."""
