"""Helm is built before the first test, because a cold build takes longer than a test may."""

import contextlib
from pathlib import Path

import pytest

from tests.cluster import build


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build helm if a test of this folder will run. If that fails, the tests say why."""
    needed = any(Path(__file__).parent in item.path.parents for item in session.items)
    if needed and not session.config.option.collectonly:
        with contextlib.suppress(build.BuildError):
            build.ensure(["helm"])
