"""The WSGI entry point: `gunicorn wsgi:app`."""

from chat_api import create_app

app = create_app()
