"""Decides: pure functions on decoded objects. No I/O, no web framework, no Kubernetes client."""
