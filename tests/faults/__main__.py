"""`make soak`: the long form of the fault tests, then steady load for a long time.

During the soak the certificate rotates. In its first third the worker is reloaded five times. From
then on the last worker's memory is measured. The exit code is 1 if a test fails, a review is lost,
or a process holds more than 5 % more memory at the end than after its warm-up.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from tests.cluster.certificates import Authority
from tests.faults.client import Load
from tests.faults.replica import HOSTS, Replica, resident

#: Reviews a second, on one connection in four a new one.
_RATE = 400
_RELOADS = 5
#: The number of certificate rotations and memory measurements.
_STEPS = 180
#: The share of a process's measurements that are its warm-up, and the share in each mean.
_SHARE = 0.1
#: The share by which a process may grow after its warm-up.
_GROWTH = 0.05


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="For how long the soak lasts.")
@click.option("--reviews", default=20_000, show_default=True, help="Reviews of each fault test.")
def main(minutes: float, reviews: int) -> None:
    """Run the fault tests in their long form, then the soak."""
    print(f"Each fault test with {reviews} reviews (some 15 minutes).", flush=True)
    os.environ["REVIEWS"] = str(reviews)
    code = pytest.main([str(Path(__file__).parent), "-q", "-s", "--tb=short", "--timeout=900"])
    print(f"\nSteady load of {_RATE} reviews a second for {minutes:g} minutes.", flush=True)
    with tempfile.TemporaryDirectory(prefix="mendix-mesh-soak-") as folder:
        troubles = _soak(Path(folder), minutes * 60)
    for trouble in troubles:
        print(f"FAILED: {trouble}")
    sys.exit(1 if troubles or code != pytest.ExitCode.OK else 0)


def _soak(folder: Path, seconds: float) -> list[str]:
    """Return the problems."""
    authority = Authority("mendix-mesh soak")
    replica = Replica(folder / "replica", authority, "--drain-seconds", "5")
    master = replica.server.process.pid
    held: dict[int, list[int]] = {}
    reload_at = [_STEPS // 3 * number // _RELOADS for number in range(1, _RELOADS + 1)]
    with replica.load(rate=_RATE) as load:
        for step in range(_STEPS):
            time.sleep(seconds / _STEPS)
            replica.files.replace(authority.issue("mendix-mesh", hosts=HOSTS))
            if step in reload_at:
                replica.reload()
            for process in (master, replica.worker):
                held.setdefault(process, []).append(resident(process))
            if step % (_STEPS // 15) == 0:
                _tell(load, held, (master, replica.worker))
    code = replica.stop()
    print(f"  {load.tally}")
    troubles = [] if code == 0 else [f"the server ended with code {code}"]
    if load.tally.lost or load.tally.wrong or load.tally.shed:
        troubles.append("not every review was answered")
    if complaints := replica.complaints():
        troubles.append(f"it complained in its log: {complaints[:3]}")
    for name, process in (("master", master), ("worker", replica.worker)):
        first, last = _first_and_last(held[process])
        growth = last / first - 1
        print(f"  {name}: {first / 1024:.1f} MiB when warm, {last / 1024:.1f} at the end: "
              f"{growth:+.1%}")  # fmt: skip
        if growth >= _GROWTH:
            troubles.append(f"the {name} grew by {growth:.1%}")
    return troubles


def _tell(load: Load, held: dict[int, list[int]], processes: Sequence[int]) -> None:
    master, worker = (held[process][-1] / 1024 for process in processes)
    print(
        f"  {load.tally.sent} sent, {len(load.tally.lost)} lost, "
        f"{len(load.tally.serials)} certificates; master {master:.1f} MiB, worker {worker:.1f} MiB",
        flush=True,
    )


def _first_and_last(looks: list[int]) -> tuple[float, float]:
    """Return a process's memory after its warm-up and at its end, in KiB."""
    part = max(1, round(len(looks) * _SHARE))
    return statistics.mean(looks[part : 2 * part]), statistics.mean(looks[-part:])


if __name__ == "__main__":
    main()
