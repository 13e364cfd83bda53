"""Structured logging: each call names an event and its values.

`webhook.serving.logs` writes both as one line of JSON. Without it, logging.basicConfig and the like
show the event alone.
"""

import logging


class Log:
    """A logger of the standard library for events with values. Its records have them as `values`.

    The values are never whole Kubernetes objects or secrets.
    """

    def __init__(self, name: str) -> None:
        """Create a logger. `name` is the name of the module."""
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **values: object) -> None:
        """Log an event that is usually not shown."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Log an event."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Log an event that needs attention. Many equal ones in a second are not all written."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Log an error."""
        self._write(logging.ERROR, event, values)

    def exception(self, event: str, **values: object) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, values, traceback=True)

    def _write(
        self, level: int, event: str, values: dict[str, object], *, traceback: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=traceback, extra={"values": values})
