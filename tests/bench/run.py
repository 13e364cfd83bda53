"""One run of everything, in interleaved rounds, because a machine's speed drifts."""

import array
import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.bench import creations, inprocess, load, pods, results, servers, start, usage
from tests.bench.results import Cell, Creations, Results
from tests.bench.servers import Row
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane

#: Requests below which a p99.9 would be a guess.
_ENOUGH = 1000


@dataclass(frozen=True)
class Plan:
    """How long a run is. Times are in seconds."""

    rounds: int = 5
    #: Of the pods that are not typical.
    few_rounds: int = 3
    seconds: float = 1.0
    creating: float = 2.5
    inprocess: float = 0.4
    idle: float = 3.0
    connections: tuple[int, ...] = (1, 8, 32)

    def rounds_of(self, size: str) -> int:
        """The rounds of a size of pod."""
        return self.rounds if size == "typical" else self.few_rounds


FULL = Plan()
QUICK = Plan(
    rounds=1, few_rounds=1, seconds=0.4, creating=0.6, inprocess=0.02, idle=0.5, connections=(8,)
)


@dataclass
class _Taken:
    """A cell while it is filled: its latencies are kept until the end for their p99.9."""

    cell: Cell
    latencies: "array.array[int]" = field(default_factory=lambda: array.array("L"))


def measure(plan: Plan, plane: ControlPlane, home: Path, console: Console) -> Results:
    """Start everything on a running control plane, and measure."""
    bodies = pods.bodies()
    found = Results(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=results.machine(),
        versions=results.versions(),
        rounds=plan.rounds,
        seconds=plan.seconds,
        sizes={
            size: {stage: len(body) for stage, body in each._asdict().items()}
            for size, each in bodies.items()
        },
    )
    with Istiod(plane) as istiod:
        with servers.running(plane, istiod, home) as rows:
            _idle(rows, plan, found)
            _reviews(rows, plan, home, found, console)
            for row in rows:
                found.servers[row.server].pss = _pss(row)
        with creations.running(plane, istiod, home) as cluster:
            _creations(cluster, plan, home, found, console)
    found.inprocess = inprocess.measure(plan.inprocess)
    found.ready_ms = start.ready_ms(home)
    return found


def _idle(rows: list[Row], plan: Plan, found: Results) -> None:
    pids = {row.server: row.pid for row in rows}
    usage.settle(list(pids.values()))
    before = {name: usage.cpu_ns([pid]) for name, pid in pids.items()}
    time.sleep(plan.idle)
    for name, pid in pids.items():
        used = (usage.cpu_ns([pid]) - before[name]) / 1e6 / plan.idle
        found.servers[name] = results.Server(idle=round(used, 2))
    for row in rows:
        found.servers[row.server].pss_start = _pss(row)


def _pss(row: Row) -> float:
    return round(usage.pss_mib(row.pid), 1)


def _reviews(rows: list[Row], plan: Plan, home: Path, found: Results, console: Console) -> None:
    bodies = pods.bodies()
    taken: dict[tuple[str, str, int], _Taken] = {}
    alone = {(row.key, size): _alone(row, size) for row in rows for size in row.sizes}
    measured = False
    for size, clients, row in track(
        list(_in_turn(rows, plan)), "reviews", console=console, transient=True
    ):
        if size != "typical" and not measured:
            measured = True
            for one in rows:
                found.servers[one.server].pss_typical = _pss(one)
        body = home / "review.json"
        body.write_bytes(getattr(bodies[size], row.body))
        target = load.Target(row.url, body, {row.server: [row.pid]})
        # Long enough that each connection is answered more than once, by the slowest too.
        turn = clients * alone[row.key, size]
        window = load.run(target, clients, max(plan.seconds, 2 * turn), home, lead=0.4 + turn)
        usage.settle([row.pid])
        new = _Taken(Cell(row.key, size, clients, []))
        cell = taken.setdefault((row.key, size, clients), new)
        cell.cell.samples.append(window.sample(row.server))
        cell.latencies.extend(window.latencies)
    for cell in taken.values():
        if len(cell.latencies) >= _ENOUGH:
            cell.cell.p999 = load.percentile(sorted(cell.latencies), 99.9)
        found.cells.append(cell.cell)


def _alone(row: Row, size: str) -> float:
    """The seconds that a server takes for one review while it has no other."""
    body = getattr(pods.bodies()[size], row.body)
    start = time.perf_counter()
    servers.answer(row, body)
    return time.perf_counter() - start


def _in_turn(rows: list[Row], plan: Plan) -> Iterator[tuple[str, int, Row]]:
    """Every cell once a round: those that are compared follow each other."""
    for number in range(max(plan.rounds, plan.few_rounds)):
        for size in ("typical", "small", "large"):
            if number >= plan.rounds_of(size):
                continue
            for clients in plan.connections:
                # Turned round, so that none always follows the same one.
                for row in rows[:: 1 if number % 2 == 0 else -1]:
                    if size in row.sizes:
                        yield size, clients, row


def _creations(
    cluster: creations.Cluster, plan: Plan, home: Path, found: Results, console: Console
) -> None:
    cells: dict[tuple[int, str], Creations] = {}
    keys = [(c, row) for c in creations.CONNECTIONS for row in creations.NAMES]
    one: Callable[[int, str, float], Creations] = lambda clients, row, seconds: creations.measure(  # noqa: E731
        cluster, row, clients, seconds, home
    )
    for clients, row in keys[-len(creations.NAMES) :]:
        one(clients, row, plan.creating / 3)  # the first ones of a young cluster are slow
    rounds = [key for _ in range(plan.rounds) for key in keys]
    for clients, row in track(rounds, "pod creations", console=console, transient=True):
        new = one(clients, row, plan.creating)
        old = cells.setdefault((clients, row), new)
        if old is not new:
            old.samples += new.samples
            for name, values in new.cpu_us.items():
                old.cpu_us[name] += values
    found.creations = list(cells.values())
