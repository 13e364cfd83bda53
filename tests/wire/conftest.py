"""The cluster with real proxies, for this folder's tests. If it cannot be had, they say why."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build, netns
from tests.console import uncaptured
from tests.image.buildah import Image, ImageError, Store
from tests.node.machine import missing
from tests.wire import images
from tests.wire.cluster import PROGRAMS, WireCluster, running

_PROGRAMS = pytest.StashKey[dict[str, Path] | build.BuildError | ImageError]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build and download before the first test, if any test needs it and it can be had."""
    requested = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "wire" not in requested or session.config.option.collectonly or missing():
        return
    with uncaptured(session.config) as console:
        try:
            found = build.ensure(PROGRAMS, console)
            images.envoy()
            session.config.stash[_PROGRAMS] = found
        except (build.BuildError, ImageError) as error:
            session.config.stash[_PROGRAMS] = error


@pytest.fixture(scope="package")
def wire(
    on_this_machine: None,
    image: Image,
    image_store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[WireCluster]:
    """Two real nodes with istiod, Envoys and mendix-mesh. Nothing outside can be reached."""
    programs = pytestconfig.stash[_PROGRAMS]
    if isinstance(programs, build.BuildError | ImageError):
        pytest.fail(str(programs), pytrace=False)
    try:
        netns.enter()
    except netns.NetworkError as error:
        pytest.fail(str(error), pytrace=False)
    started = time.monotonic()
    with running(tmp_path_factory.mktemp("wire"), programs, image_store, image) as cluster:
        with uncaptured(pytestconfig) as console:
            taken = time.monotonic() - started
            console.print(f"\nReal proxies with mendix-mesh up in {taken:.1f} s.")
        yield cluster
