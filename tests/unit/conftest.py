"""The effects of a command on its process end with the test that ran it."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo a server's setup of the logs of its process."""
    root, level, handlers = logging.root, logging.root.level, logging.root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
