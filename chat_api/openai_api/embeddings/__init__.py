"""Embeddings: a provider's answer, handed on as it arrives. Nothing of it is stored."""
