"""The chart on real nodes, for this folder's tests. If there can be no nodes, they say why."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build
from tests.console import uncaptured
from tests.image.buildah import Image, Store
from tests.node.installed import NodeCluster, installed
from tests.node.machine import missing

_PROGRAMS = pytest.StashKey[dict[str, Path] | build.BuildError]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test, if any test needs the nodes and they can be had."""
    requested = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "nodes" not in requested or session.config.option.collectonly or missing():
        return
    with uncaptured(session.config) as console:
        try:
            found = build.ensure([*build.CORE, *build.NODE], console)
            session.config.stash[_PROGRAMS] = found
        except build.BuildError as error:
            session.config.stash[_PROGRAMS] = error


@pytest.fixture(scope="package")
def nodes(
    on_this_machine: None,
    image: Image,
    image_store: Store,
    own_network: None,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[NodeCluster]:
    """Two real nodes with mendix-mesh. From here on, nothing outside can be reached."""
    programs = pytestconfig.stash[_PROGRAMS]
    if isinstance(programs, build.BuildError):
        pytest.fail(str(programs), pytrace=False)
    started = time.monotonic()
    folder = tmp_path_factory.mktemp("nodes")
    with installed(folder, programs, image_store, image) as cluster:
        with uncaptured(pytestconfig) as console:
            taken = time.monotonic() - started
            console.print(f"\nTwo real nodes with mendix-mesh up in {taken:.1f} s.")
        yield cluster
