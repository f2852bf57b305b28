"""Measures the service's hot endpoints against a bare Flask route under the same gunicorn: `make bench`."""
