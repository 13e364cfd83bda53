"""The fixtures of these tests. The effects of a command on its process end with its test."""

import logging
from collections.abc import Iterator

import pytest

# For serving and admission.
from tests.unit.serving.fixtures import (  # noqa: F401
    client,
    flask,
    resident,
    reviewer,
    running_server,
    server,
    server_process,
    settings_file,
)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo a server's setup of the logs of its process."""
    root, level, handlers = logging.root, logging.root.level, logging.root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
