"""Measures full-text search over a million messages of one user, beside a million of another."""
