"""Answers the API server: wire types, the loop, the web application, TLS."""

import sys

if "rich" not in sys.modules:
    # structlog looks for rich, to show traces in colour, which is never asked of it here: without
    # it a server is 4 MiB smaller.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
