"""The server of the admission webhook, the auditor and the dashboard: an event loop with TLS."""
