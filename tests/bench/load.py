"""Load on one URL by h2load, and what came of it: rate, CPU of a server, latencies.

The client is in C and logs every request, so that it takes little of the machine and nothing is
estimated. What is measured is a window inside its run: connections are open by then.
"""

import math
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import usage
from tests.bench.results import Sample

_LEAD = 0.4
_TAIL = 0.2


class LoadError(Exception):
    """A server did not answer as it should have; the message has what h2load said."""


@dataclass
class Target:
    """Where load goes, and whose CPU is counted: by name, the processes with their descendants."""

    url: str
    body: Path
    pids: Mapping[str, Sequence[int]]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class Window:
    """What happened in a window: latencies in microseconds, sorted; CPU in microseconds by name."""

    seconds: float
    latencies: list[int]
    cpu_us: dict[str, float]

    def sample(self, name: str) -> Sample:
        """The figures of one round, with the CPU of `name`."""
        count = len(self.latencies)
        return Sample(
            count=count,
            rate=round(count / self.seconds, 1),
            cpu_us=round(self.cpu_us[name] / count, 1),
            p50=percentile(self.latencies, 50),
            p99=percentile(self.latencies, 99),
            worst=self.latencies[-1],
        )


def run(target: Target, clients: int, seconds: float, home: Path, *, lead: float = _LEAD) -> Window:
    """Send the same request over and over, on so many connections, one at a time on each.

    `lead` is how long, in seconds, before the window opens: all have connected by then.
    """
    log = home / "requests.tsv"
    duration = round((lead + seconds + _TAIL) * 1000)
    command = ["h2load", "--h1", f"--clients={clients}", f"--duration={duration}ms", "--threads=1"]
    command += [f"--data={target.body}", f"--log-file={log}"]
    headers = {"content-type": "application/json", **target.headers}
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    log.unlink(missing_ok=True)
    with subprocess.Popen(
        [*command, target.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        time.sleep(lead)
        accounts = {**target.pids, "client": [client.pid]}
        before, start = _cpu(accounts), time.time()
        time.sleep(seconds)
        after, end = _cpu(accounts), time.time()
        said, _ = client.communicate(timeout=60)
    latencies = _read(log, start, end, target.status, f"{target.url}:\n{said}")
    cpu = {name: (after[name] - before[name]) / 1000 for name in accounts}
    return Window(end - start, latencies, cpu)


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The smallest value that so many percent do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _cpu(accounts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {name: usage.cpu_ns(pids) for name, pids in accounts.items()}


def _read(log: Path, start: float, end: float, status: int, what: str) -> list[int]:
    """The latencies of the requests that ended in a window of seconds since 1970."""
    found = []
    lines = log.read_text().splitlines() if log.exists() else []
    for line in lines:
        began, code, took = (int(column) for column in line.split("\t")[:3])
        if start <= (began + took) / 1e6 <= end:
            if code != status:
                raise LoadError(f"a request was answered with {code} by {what}")
            found.append(took)
    if not found:
        raise LoadError(f"no request was answered by {what}")
    return sorted(found)


def missing() -> list[str]:
    """What to install before anything can be measured, as commands; empty where all is there."""
    programs = {"h2load": "nghttp2-client", "nginx": "nginx-light"}
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return [
        f"apt-get install {package}"
        for program, package in programs.items()
        if not _which(program, path)
    ]


def _which(program: str, path: str) -> bool:
    return any(os.access(Path(folder) / program, os.X_OK) for folder in path.split(":") if folder)
