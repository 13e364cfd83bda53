"""The image's file tree, for the tests of the image and those that run it on a node."""

import os
from pathlib import Path

import pytest

from tests.image.tree import Image, ImageError, build, wheels
from tests.requirements import not_run

_WHEELS = pytest.StashKey[Path | ImageError]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what the image is made of before the tests leave the machine's network."""
    requested = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "image" in requested and not session.config.option.collectonly and not os.geteuid():
        try:
            session.config.stash[_WHEELS] = wheels()
        except ImageError as error:
            session.config.stash[_WHEELS] = error


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the Dockerfile, as a tree."""
    if os.geteuid():
        not_run("building the image's tree needs root")
    fetched = pytestconfig.stash[_WHEELS]
    if isinstance(fetched, ImageError):
        pytest.fail(str(fetched), pytrace=False)
    return build(tmp_path_factory.mktemp("image") / "tree")
