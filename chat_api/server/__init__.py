"""How gunicorn's workers serve the application: the two worker classes and what they share.

Written against gunicorn 27.0.1: read its `gthread.py`, `ggevent.py` and `base_async.py` again before an upgrade.
"""

STALLED_CLIENT_S = 30  # a client that neither sends nor reads for so long loses its connection
LINGER_S = 2.0  # a closed connection may take this long to read its answer and close its own side
LINGER_BYTES = 16 * 1024 * 1024  # and may send so much of a body that nobody reads
