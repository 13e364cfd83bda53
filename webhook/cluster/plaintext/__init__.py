"""Who gets into a namespace without mutual TLS, and closing it."""
