"""The service as it runs: a real gunicorn on SQLite and on Postgres, under load, faults and kills."""
