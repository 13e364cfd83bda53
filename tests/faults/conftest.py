"""Replicas for the fault tests, and the number of reviews that each test sends."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.certificates import Authority
from tests.faults.client import Tally
from tests.faults.replica import Replica, Show, Start


@pytest.fixture(scope="session")
def reviews() -> int:
    """How many reviews a test sends at least: the long form sets the variable REVIEWS."""
    return int(os.environ.get("REVIEWS", "1000"))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("mendix-mesh tests")


@pytest.fixture
def start(tmp_path: Path, authority: Authority) -> Iterator[Start]:
    """Start a replica, with any arguments. It is stopped after the test.

    It must end with code 0, and its log must only have complaints that the test allows.
    """
    started: list[Replica] = []

    def one(*arguments: str | Path, **options: object) -> Replica:
        folder = tmp_path / f"replica-{len(started)}"
        started.append(Replica(folder, authority, *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield one
    codes = [replica.stop() for replica in started]
    assert set(codes) <= {0}
    for replica in started:
        strange = [c for c in replica.complaints() if not re.search(replica.allowed, c)]
        assert not strange, strange[:5]


@pytest.fixture
def replica(start: Start) -> Replica:
    """A replica with the default settings."""
    return start()


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Show:
    """Print the outcome of a test's reviews, with remarks. `make soak` shows it."""

    def say(tally: Tally, *remarks: str) -> None:
        name = request.node.name.removeprefix("test_").replace("_", " ")
        print(f"\n{name}:", tally, *remarks, sep="\n  ")

    return say
