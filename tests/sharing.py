"""Several runs of pytest share the tests: the one that is free takes the next module."""

import os
from pathlib import Path

import pytest

#: The variable with the folder in which the runs note what they have taken.
SHARED = "MENDIX_MESH_SHARED"
#: Folders with real nodes, which take long to start, and much of a machine. One run takes all, with
#: the tests of the image, which the nodes also need.
_NODES = ("node", "wire", "image")
_TAKEN = pytest.StashKey[dict[str, bool]]()
_NEXT = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Take the first tests."""
    session.stash[_TAKEN], session.stash[_NEXT] = {}, 0
    _take(session, 0)
    _take(session, 1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Take the test after the next one.

    pytest already knows the next one, and keeps the fixtures that both share.
    """
    session = item.session
    session.stash[_NEXT] += 1
    _take(session, session.stash[_NEXT] + 1)


def _take(session: pytest.Session, at: int) -> None:
    """Remove the tests from an index on that other runs have taken, up to one that is ours."""
    while at < len(session.items) and not _is_ours(session, session.items[at]):
        del session.items[at]


def _is_ours(session: pytest.Session, item: pytest.Item) -> bool:
    folder, taken = os.environ.get(SHARED), session.stash[_TAKEN]
    if not folder:
        return True
    path = item.path.relative_to(Path(__file__).parent)
    name = "nodes" if path.parts[0] in _NODES else "-".join(path.parts)
    if name not in taken:
        try:
            Path(folder, name).touch(exist_ok=False)
            taken[name] = True
        except FileExistsError:
            taken[name] = False
    return taken[name]
