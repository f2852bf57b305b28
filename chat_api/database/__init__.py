"""The database: engine, session, column types, and the compiled statements of the hot paths."""
