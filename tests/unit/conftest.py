"""What a command does to its process ends with the test that ran it."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a server sets up for the logs of its process."""
    root, level, handlers = logging.root, logging.root.level, logging.root.handlers[:]
    # A logger that was cached would stay as it is for the tests to come.
    configure = structlog.configure

    def uncached(**given: Any) -> None:
        configure(**{**given, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers
