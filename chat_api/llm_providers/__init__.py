"""LLM providers: where replies come from."""
