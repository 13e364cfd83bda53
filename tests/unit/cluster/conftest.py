"""Time passes at once where the connection waits; how long it wanted to is noted."""

import pytest


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait."""
    noted: list[float] = []
    monkeypatch.setattr("webhook.cluster.connection.time.sleep", noted.append)
    return noted
