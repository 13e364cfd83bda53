"""Puts load on one URL with h2load, and measures rate, latencies, and the CPU of servers.

h2load logs each request, so nothing is estimated. What counts is a window inside its run, in which
all connections are open.
"""

import contextlib
import math
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.results import Sample

_TAIL = 0.2  # seconds after the window
_QUIET = 0.2  # cores below which a process is at rest


class LoadError(Exception):
    """A server did not answer as it should. The message has the output of h2load."""


class Target(NamedTuple):
    """Where load goes. CPU is counted for the processes of each name, with their descendants."""

    #: In turn.
    urls: Sequence[str]
    body: Path
    pids: Mapping[str, Sequence[int]]
    headers: Mapping[str, str] = {}
    status: int = 200


def run(
    target: Target, clients: int, seconds: float, home: Path, *, lead: float = 0.4
) -> tuple[Sample, dict[str, float]]:
    """Send one request again and again on `clients` connections, one at a time on each.

    Return the figures, with the CPU of the first name, and the CPU of each name for one request in
    microseconds. The window opens after `lead` seconds. Raise `LoadError`.
    """
    log = home / "requests.tsv"
    log.unlink(missing_ok=True)
    duration = round((lead + seconds + _TAIL) * 1000)
    command = ["h2load", "--h1", f"--clients={clients}", f"--duration={duration}ms", "--threads=1"]
    command += [f"--data={target.body}", f"--log-file={log}"]
    headers = {"content-type": "application/json", **target.headers}
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    with subprocess.Popen(
        [*command, *target.urls], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        time.sleep(lead)
        pids = {**target.pids, "client": [client.pid]}
        before, start = {name: cpu_ns(of) for name, of in pids.items()}, time.time()
        time.sleep(seconds)
        used, end = {name: cpu_ns(of) - before[name] for name, of in pids.items()}, time.time()
        output, _ = client.communicate(timeout=60)
    took = _latencies(log, start, end, target.status, f"{target.urls[0]}:\n{output}")
    cpu = {name: round(total / len(took) / 1000, 1) for name, total in used.items()}
    rate = round(len(took) / (end - start), 1)
    return Sample(rate, next(iter(cpu.values())), _percentile(took, 50), _percentile(took, 99)), cpu


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the smallest value that so many percent do not exceed (nearest rank)."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def _latencies(log: Path, start: float, end: float, status: int, what: str) -> list[int]:
    """Return the sorted latencies of the requests that ended in a window, in microseconds."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        began, code, took = (int(column) for column in line.split("\t")[:3])
        if start <= (began + took) / 1e6 <= end:
            if code != status:
                raise LoadError(f"a request was answered with {code} by {what}")
            found.append(took)
    if not found:
        raise LoadError(f"no request was answered by {what}")
    return sorted(found)


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time of processes and their descendants, in nanoseconds.

    It is the scheduler's account of each thread. /proc/PID/stat counts in steps of 10 ms.
    """
    total = 0
    for pid in _tree(pids):
        for thread in _threads(pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in MiB."""
    files = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in _tree([pid])]
    lines = [line.split() for text in files for line in text.splitlines()]
    return round(sum(int(words[1]) for words in lines if words[0] == "Pss:") / 1024, 1)


def settle(pids: Sequence[int]) -> None:
    """Wait until processes have finished their work, at most 20 seconds."""
    for _ in range(400):
        before = cpu_ns(pids)
        time.sleep(0.05)
        if cpu_ns(pids) - before < _QUIET * 0.05 * 1e9:
            return


def _tree(pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        yield pid
        for thread in _threads(pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from _tree([*map(int, (thread / "children").read_text().split())])


def _threads(pid: int) -> list[Path]:
    folder = Path(f"/proc/{pid}/task")
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
