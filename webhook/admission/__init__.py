"""Answers the API server: wire types, the admission lane, the web application, TLS."""
