"""The application for gunicorn (`gunicorn wsgi:app`) and for all commands (`flask --app wsgi`)."""

from chat_api import create_app
from chat_api.operations.command_errors import load_app

app = load_app(create_app)
