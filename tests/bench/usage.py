"""What a server uses: CPU time and memory of a process and all its descendants, from /proc."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Cores below which a process is at rest; how long is looked, and waited, in seconds.
_QUIET = 0.2
_LOOK, _PATIENCE = 0.05, 5.0


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time of these processes and their descendants so far, user and system, in nanoseconds.

    The scheduler's own account of each thread; /proc/PID/stat counts in ticks of 10 ms.
    """
    total = 0
    for pid in _tree(pids):
        for account in _threads(pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((account / "schedstat").read_text().split()[0])
    return total


def pss_mib(pid: int) -> float:
    """Proportional set size of a process and its descendants, in MiB: shared pages are shared."""
    total = 0
    for each in _tree([pid]):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def settle(pids: Sequence[int]) -> None:
    """Wait until these processes have done what was left to do: use little of a core again."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        before = cpu_ns(pids)
        time.sleep(_LOOK)
        if cpu_ns(pids) - before < _QUIET * _LOOK * 1e9:
            return


def _tree(pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        yield pid
        for thread in _threads(pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from _tree(
                    [int(child) for child in (thread / "children").read_text().split()]
                )


def _threads(pid: int) -> list[Path]:
    folder = Path(f"/proc/{pid}/task")
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
