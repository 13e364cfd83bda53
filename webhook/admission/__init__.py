"""Answers the API server: wire types, the application, metrics and the gunicorn worker."""

import sys

if "rich" not in sys.modules:
    # structlog imports rich for colored tracebacks, which this server never prints. Without rich
    # the process is 4 MiB smaller.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
