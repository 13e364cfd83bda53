"""JSON logs, one object a line, on standard output: uid and decision, never objects or secrets."""

import logging
import logging.config
import time
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


class Sparing(logging.Filter):
    """Lets through a few warnings of a kind each second: whoever calls may cause any number.

    The first one afterwards tells how many were held back. Verdicts are no warnings, and all of
    them are written.
    """

    _MOST, _KINDS = 10, 256

    def __init__(self) -> None:
        super().__init__()
        #: Kind -> the second, and how many there were in it.
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record."""
        if record.levelno != logging.WARNING:
            return True
        text = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
        kind, now = (record.name, str(text)), int(time.monotonic())
        if len(self._seen) >= self._KINDS:
            self._seen.clear()
        second, count = self._seen.get(kind, (now, 0))
        if second == now:
            self._seen[kind] = (now, count + 1)
            return count < self._MOST
        self._seen[kind] = (now, 1)
        held = count - self._MOST
        if held > 0:
            if isinstance(record.msg, dict):
                record.msg = {**record.msg, "held_back": held}
            else:
                record.msg = f"{record.msg} ({held} more like it were held back)"
        return True


def config(level: str) -> dict[str, Any]:
    """A dictConfig for logging, which gunicorn and uvicorn log through as well."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    structlog.processors.JSONRenderer(),
                ],
            }
        },
        "filters": {"sparing": {"()": Sparing}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "filters": ["sparing"],
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "root": {"level": level.upper(), "handlers": ["stdout"]},
        "loggers": {
            name: {"level": level.upper(), "handlers": [], "propagate": True}
            for name in ("gunicorn.error", "gunicorn.access", "uvicorn.error")
        },
    }


def set_up(level: str) -> None:
    """Send everything that is logged in this process through one JSON handler."""
    logging.config.dictConfig(config(level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
