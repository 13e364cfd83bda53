"""One run of everything, in interleaved rounds, because a machine's speed changes."""

import datetime
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from tests.bench import creations, load, pods, results, servers
from tests.bench.results import Cell, Results
from tests.bench.servers import Row
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane


class Plan(NamedTuple):
    """How long a run is. Times are in seconds."""

    rounds: int = 5
    seconds: float = 1.0
    creating: float = 2.5
    connections: tuple[int, ...] = (1, 8, 32)


FULL = Plan()
QUICK = Plan(rounds=1, seconds=0.4, creating=0.6, connections=(8,))


def measure(plan: Plan, plane: ControlPlane, home: Path, console: Console) -> Results:
    """Start everything on a running control plane, and measure."""
    found = Results(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=results.machine(),
        versions=results.versions(),
        rounds=plan.rounds,
        seconds=plan.seconds,
    )
    with Istiod(plane) as istiod:
        with servers.running(plane, istiod, home) as rows:
            alone = {(row, size): _seconds(row, size) for row in rows for size in pods.SIZES}
            for size, clients, row in track(_reviews(rows, plan), "reviews", console=console):
                # Long enough that also the slowest server answers twice on each connection.
                turn = clients * alone[row, size]
                seconds = max(plan.seconds, 2 * turn)
                found.add(_measure(row, size, clients, seconds, 0.4 + turn, home))
            found.pss = {row.key: load.pss_mib(row.pid) for row in rows if row.body != "plain"}
        with creations.running(plane, istiod) as cluster:
            for name in creations.NAMES:
                # The first pods of a new cluster are slow.
                creations.measure(cluster, name, 8, plan.creating / 3, home)
            for clients, name in track(_creations(plan), "pod creations", console=console):
                found.add(creations.measure(cluster, name, clients, plan.creating, home))
    found.ready_ms = servers.ready_ms(home)
    return found


def _seconds(row: Row, size: str) -> float:
    """Return the time of one review while the server has no other."""
    start = time.perf_counter()
    servers.answer(row, size)
    return time.perf_counter() - start


def _measure(row: Row, size: str, clients: int, seconds: float, lead: float, home: Path) -> Cell:
    body = home / "review.json"
    body.write_bytes(getattr(pods.bodies(size), row.body))
    target = load.Target([row.url], body, {row.key: [row.pid]})
    sample, _ = load.run(target, clients, seconds, home, lead=lead)
    load.settle([row.pid])
    return Cell(row.key, size, clients, [sample])


def _creations(plan: Plan) -> list[tuple[int, str]]:
    """Return each cell once a round, in both directions: a cell starts with the last one's work."""
    cells = [(c, name) for c in creations.CONNECTIONS for name in creations.NAMES]
    return [cell for number in range(plan.rounds) for cell in cells[:: -1 if number % 2 else 1]]


def _reviews(rows: list[Row], plan: Plan) -> list[tuple[str, int, Row]]:
    """Return each cell once a round. Cells that are compared follow each other."""
    return [
        (size, clients, row)
        for number in range(plan.rounds)
        # Three rounds are enough for the pods that are not typical.
        for size in (pods.SIZES if number < 3 else pods.SIZES[:1])
        for clients in plan.connections
        # In both directions, so that none always follows the same one.
        for row in rows[:: 1 if number % 2 == 0 else -1]
    ]
