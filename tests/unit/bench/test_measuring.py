"""What is measured, and of whom."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import load, usage

#: Starts a child that is busy for a second of CPU, and waits until it is told to end.
_PARENT = """
import subprocess, sys
busy = "import time\\nwhile time.process_time() < 1: pass\\nprint('done', flush=True)\\ninput()"
subprocess.run([sys.executable, "-c", busy])
"""


def test_the_cpu_of_a_child_of_a_process_is_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdin
        parent.stdout.readline()
        used = usage.cpu_ns([parent.pid])
        parent.stdin.write("\n")
        parent.stdin.flush()
        parent.wait()
    assert used >= 0.95e9


def test_the_cpu_of_an_ended_process_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
        assert usage.cpu_ns([gone.pid]) == 0


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (50, 50), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: int) -> None:
    assert load.percentile(range(1, 101), percent) == value


def test_what_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install nghttp2-client" in load.missing()
