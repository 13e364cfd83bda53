"""JSON logs, one object a line, on standard output: uid and decision, never objects or secrets."""

import contextlib
import logging
import logging.config
import os
import select
import stat
import sys
import time
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


class Sparing(logging.Filter):
    """Lets through a few warnings of a kind each second: anyone who calls may cause any number.

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


class Output(logging.Handler):
    """Writes each record as a line, and never waits: a line that can't be written is lost.

    Standard output may be full, closed, or a pipe that nobody reads. Then one line on standard
    error says how many lines were lost; further ones follow at most once a minute.
    """

    #: Lines that this process has lost.
    lost = 0
    #: Seconds between two lines on standard error.
    _EVERY = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._told, self._tell_at = Output.lost, 0.0
        self._rest = b""
        self._out, self._err = (_Descriptor(number) for number in (1, 2))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        # What is left of a line that was written in part must come first.
        self._rest = self._out.write(self._rest)
        with contextlib.suppress(Exception):
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
            left = line if self._rest else self._out.write(line)
            if left != line:
                self._rest = left
                return
        Output.lost += 1
        self.flush()

    def flush(self) -> None:
        """Say on standard error how many lines were lost, if that was not said lately."""
        now = time.monotonic()
        if Output.lost > self._told and now >= self._tell_at:
            self._told, self._tell_at = Output.lost, now + self._EVERY
            self._err.write(
                b"mendix-mesh: %d log lines were lost, because standard output is full, closed or "
                b"not read\n" % Output.lost
            )

    def close(self) -> None:
        """Say it for the last time."""
        self._tell_at = 0.0
        self.flush()
        for descriptor in (self._out, self._err):
            descriptor.close()
        super().close()


class _Descriptor:
    """Standard output or error, written to without ever waiting.

    O_NONBLOCK belongs to an open file, which other processes share. So a pipe is opened again, and
    anything else is written to in small parts as long as it has room.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._own: int | None = None
        self._poll = select.poll()
        # If it was closed at the start, its number may be another file's by now.
        self._is_open = (sys.__stdout__ if number == 1 else sys.__stderr__) is not None
        if self._is_open:
            self._poll.register(number, select.POLLOUT)
            with contextlib.suppress(OSError):
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    self._own = os.open(f"/proc/self/fd/{number}", flags)

    def write(self, text: bytes) -> bytes:
        """Write a text; returns what could not be written of it."""
        # BlockingIOError is an OSError: it is full. Else it is closed, or its disk is full.
        with contextlib.suppress(OSError):
            while text and self._is_open:
                if self._own is not None:
                    text = text[os.write(self._own, text) :]
                elif any(event & select.POLLOUT for _, event in self._poll.poll(0)):
                    text = text[os.write(self._number, text[: select.PIPE_BUF]) :]
                else:
                    break
        return text

    def close(self) -> None:
        """Close what was opened again."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


def config(level: str) -> dict[str, Any]:
    """Return a dictConfig for logging, which gunicorn logs through as well."""
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
        "handlers": {"stdout": {"()": Output, "filters": ["sparing"], "formatter": "json"}},
        "root": {"level": level.upper(), "handlers": ["stdout"]},
        "loggers": {
            name: {"level": level.upper(), "handlers": [], "propagate": True}
            for name in ("gunicorn.error", "gunicorn.access")
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
