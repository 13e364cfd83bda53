"""The server under the admission webhook, the auditor and the dashboard: one loop, and TLS."""
