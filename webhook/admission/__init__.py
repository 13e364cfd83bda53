"""Answers the API server: wire types, the application, metrics and the gunicorn worker."""
