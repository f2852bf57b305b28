"""Users: the owners of all data."""
