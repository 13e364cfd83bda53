"""Speaks to an API server."""
