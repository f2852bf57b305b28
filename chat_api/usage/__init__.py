"""What a user has stored, and how much one user may store."""
