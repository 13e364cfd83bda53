"""A console for what takes long, while pytest captures what tests print."""

import contextlib
from collections.abc import Iterator

import pytest
from rich.console import Console


@contextlib.contextmanager
def uncaptured(config: pytest.Config) -> Iterator[Console]:
    """Return a console on the real stderr, on which what takes long says so."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield Console(stderr=True)
