"""Talks to LLM providers: one gate for all outgoing calls, one adapter for each protocol; no Flask, no database."""
