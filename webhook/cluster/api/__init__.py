"""The client for the API server."""
