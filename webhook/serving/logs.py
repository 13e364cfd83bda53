"""JSON logs on standard output, one object per line, without Kubernetes objects or secrets."""

import contextlib
import datetime
import json
import logging
import logging.config
import os
import select
import stat
import sys
import time
from typing import Any

#: The maximum number of characters that a line has of a value and of a traceback. Clients choose
#: some values, up to 7 MiB.
_LONGEST, _LONGEST_TRACEBACK = 1000, 16_000


class Json(logging.Formatter):
    """Formats a record as one JSON object: time, level, event, and the record's values."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname.lower(),
            "event": _cut(record.getMessage()),
            **{name: _cut(value) for name, value in getattr(record, "values", {}).items()},
        }
        if record.exc_info:
            line["exception"] = _cut(self.formatException(record.exc_info), _LONGEST_TRACEBACK)
        return json.dumps(line, default=repr)


def _cut(value: object, most: int = _LONGEST) -> object:
    """Return a value, or the beginning of its text if that is too long, with the length."""
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return value if len(text) <= most else f"{text[:most]}... (cut, {len(text)} characters)"


class Sparing(logging.Filter):
    """Limits the warnings of each kind per second, because any client can cause any number of them.

    The next warning reports how many were suppressed. Verdicts are not warnings, so all of them are
    written.
    """

    _MOST, _KINDS = 10, 256

    def __init__(self) -> None:
        super().__init__()
        #: Maps each kind to the current second and the number of warnings in it.
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        if record.levelno != logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), int(time.monotonic())
        if len(self._seen) >= self._KINDS:
            self._seen.clear()
        second, count = self._seen.get(kind, (now, 0))
        if second == now:
            self._seen[kind] = (now, count + 1)
            return count < self._MOST
        self._seen[kind] = (now, 1)
        held = count - self._MOST
        if held > 0:
            record.values = {**getattr(record, "values", {}), "held_back": held}
        return True


class Output(logging.Handler):
    """Writes each record as one line and never blocks. A line that can't be written is lost.

    Standard output may be full, closed, or a pipe without a reader. In this case one line on
    standard error says how many lines were lost. It is repeated at most once a minute.
    """

    #: The number of lines that this process has lost.
    lost = 0
    #: The minimum number of seconds between two lines on standard error.
    _EVERY = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._reported, self._report_at = Output.lost, 0.0
        self._rest = b""
        self._out, self._err = (_Descriptor(number) for number in (1, 2))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        # The rest of a partly written line must be written first.
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
        """Report on standard error how many lines were lost, at most once a minute."""
        now = time.monotonic()
        if Output.lost > self._reported and now >= self._report_at:
            self._reported, self._report_at = Output.lost, now + self._EVERY
            self._err.write(
                b"mendix-mesh: %d log lines were lost, because standard output is full, closed or "
                b"not read\n" % Output.lost
            )

    def close(self) -> None:
        """Report the lost lines a last time, and close the descriptors."""
        self._report_at = 0.0
        self.flush()
        for descriptor in (self._out, self._err):
            descriptor.close()
        super().close()


class _Descriptor:
    """Standard output or standard error. Writing to it never blocks.

    O_NONBLOCK belongs to an open file, which other processes may share. So a pipe is opened a
    second time. Anything else is written to in small parts while it has room.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._own: int | None = None
        self._poll = select.poll()
        # If it was closed when the process started, its number may now belong to another file.
        self._is_open = (sys.__stdout__ if number == 1 else sys.__stderr__) is not None
        if self._is_open:
            self._poll.register(number, select.POLLOUT)
            with contextlib.suppress(OSError):
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    self._own = os.open(f"/proc/self/fd/{number}", flags)

    def write(self, line: bytes) -> bytes:
        """Write a line. Return the part that could not be written."""
        text = memoryview(line)
        # All of these are an OSError: the descriptor is full (BlockingIOError), it is closed, or
        # the disk is full.
        with contextlib.suppress(OSError):
            while text and self._is_open:
                if self._own is not None:
                    text = text[os.write(self._own, text) :]
                elif any(event & select.POLLOUT for _, event in self._poll.poll(0)):
                    text = text[os.write(self._number, text[: select.PIPE_BUF]) :]
                else:
                    break
        return bytes(text)

    def close(self) -> None:
        """Close the pipe that was opened a second time."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


def config(level: str) -> dict[str, Any]:
    """Return a `dictConfig` for logging. gunicorn uses the same one."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": Json}},
        "filters": {"sparing": {"()": Sparing}},
        "handlers": {"stdout": {"()": Output, "filters": ["sparing"], "formatter": "json"}},
        "root": {"level": level.upper(), "handlers": ["stdout"]},
        "loggers": {
            name: {"level": level.upper(), "handlers": [], "propagate": True}
            for name in ("gunicorn.error", "gunicorn.access")
        },
    }


def set_up(level: str) -> None:
    """Send all log output of this process through one JSON handler."""
    logging.config.dictConfig(config(level))
