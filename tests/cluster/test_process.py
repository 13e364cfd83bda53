"""The children of the tests: none outlives them, and one that dies early is explained."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.api import wait_for
from tests.cluster.process import Process, ProcessError


def test_a_child_that_dies_early_is_explained_by_the_end_of_its_log(tmp_path: Path) -> None:
    script = "print('one'); raise SystemExit('two')"
    child = Process("child", [sys.executable, "-c", script], log=tmp_path / "log")
    wait_for(lambda: child.returncode is not None, why="the child to end")
    with pytest.raises(ProcessError, match=r"child ended with code 1(?s:.*)two"):
        child.check()
    with pytest.raises(ProcessError, match="no program /nowhere"):
        Process("ghost", ["/nowhere"], log=tmp_path / "log")


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path\n"
        "from tests.cluster.process import Process\n"
        "child = Process('child', ['sleep', '600'], log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "log"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert _runs(pid)
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not _runs(pid), why="the orphan to be gone")


def _runs(pid: int) -> bool:
    """Return whether a process runs. A zombie does not run."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
