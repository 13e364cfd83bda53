"""Hypothesis without time limits, and what several folders need: the image, and real nodes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import netns
from tests.image.buildah import Image, ImageError, Store, missing, wheels
from tests.node import machine
from tests.requirements import not_run

# A busy machine is not a failure.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

pytest_plugins = ["tests.sharing"]

_WHEELS = pytest.StashKey[Path | ImageError]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Download what the image consists of before the tests leave the machine's network."""
    asked = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "image_store" in asked and not session.config.option.collectonly and not missing():
        try:
            session.config.stash[_WHEELS] = wheels()
        except ImageError as error:
            session.config.stash[_WHEELS] = error


@pytest.fixture(scope="session")
def on_this_machine() -> None:
    """Check that real nodes are possible. For their tests, it comes before the image."""
    if reason := machine.missing():
        not_run(reason)


@pytest.fixture(scope="session")
def image_store(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """The folder in which buildah works."""
    if reason := missing():
        not_run(reason)
    downloaded = pytestconfig.stash[_WHEELS]
    if isinstance(downloaded, ImageError):
        pytest.fail(str(downloaded), pytrace=False)
    folder = tmp_path_factory.mktemp("image")
    yield Store(folder, downloaded)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def own_network() -> None:
    """Move this process into a network namespace for good: nothing outside can be reached."""
    try:
        netns.enter()
    except netns.NetworkError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def image(image_store: Store) -> Image:
    """The image of the Dockerfile."""
    return image_store.open(image_store.build())
