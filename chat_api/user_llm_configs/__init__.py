"""Users' own keys for LLM providers."""
