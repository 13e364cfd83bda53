"""Captures what the program logs."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that gets each record as its event, level and values. Nothing is written."""
    captured: list[dict[str, Any]] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entry = {"event": record.getMessage(), "log_level": record.levelname.lower()}
            captured.append({**entry, **getattr(record, "values", {})})
            if record.exc_info:
                captured[-1]["exc_info"] = record.exc_info

    ours, handler = logging.getLogger("webhook"), Capture()
    level, propagate = ours.level, ours.propagate
    ours.setLevel(logging.DEBUG)
    ours.propagate = False
    ours.addHandler(handler)
    try:
        yield captured
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate
