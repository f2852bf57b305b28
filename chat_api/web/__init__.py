"""HTTP in and out: blueprint, fields, JSON bodies, pages and responses."""
