"""Which namespaces are enrolled, which could be, and which are meant."""
