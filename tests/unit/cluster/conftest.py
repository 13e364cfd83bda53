"""Waits of the connection end immediately; their length is recorded."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.logs import capture_logs


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait."""
    noted: list[float] = []
    monkeypatch.setattr("webhook.cluster.api.connection.time.sleep", noted.append)
    return noted


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines of the log, each with its `event`."""
    with capture_logs() as lines:
        yield lines
