"""The messages if the network namespace can't be created."""

import threading
from pathlib import Path

import pytest

from tests.cluster import netns


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the process is not inside yet."""
    monkeypatch.setattr(netns, "inside", lambda: False)


def test_a_missing_ip_command_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(netns.NetworkError, match="install iproute2"):
        netns.enter()


def test_without_root_running_threads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="busy")
    thread.start()
    try:
        with pytest.raises(netns.NetworkError, match=r"before the first thread .* busy"):
            netns.enter()
    finally:
        end.set()
        thread.join()


def test_free_ports_are_distinct() -> None:
    assert len(set(netns.free_ports(20))) == 20
