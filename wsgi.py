"""The application for gunicorn (`gunicorn wsgi:app`) and for all commands (`flask --app wsgi`)."""

import gc

gc.disable()  # nearly all that is made at the start stays: looking for garbage took an eighth of it

from chat_api import create_app
from chat_api.operations.command_errors import load_app
from chat_api.operations.schema import create_schema_app

app = load_app(create_app, create_schema_app)

gc.freeze()
gc.enable()
