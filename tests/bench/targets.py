"""What mendix-mesh is to reach beside the others, and whether it did in a run.

Ratios are of the same round, and the median of the rounds counts: a machine's speed drifts.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.bench import creations, servers
from tests.bench.results import Cell, Creations, Results, Sample


class Target(NamedTuple):
    """One target, in words, and what was measured."""

    what: str
    limit: str
    measured: str
    met: bool


def evaluate(results: Results) -> list[Target]:
    """All targets that a run can tell about."""
    return [*_reviews(results), *_creations(results), *_server(results)]


_OURS = {servers.OURS: "validate", servers.OURS_MUTATE: "mutate"}
#: Ours, the other, and how much of its CPU may be used on the typical pod.
_CPU = (
    (servers.OURS, servers.POD_SECURITY, 0.25),
    (servers.OURS, servers.ISTIOD, 0.03),
    (servers.OURS_MUTATE, servers.ISTIOD, 0.03),
    (servers.OURS, servers.NGINX, 5.0),
    (servers.OURS_MUTATE, servers.NGINX, 5.0),
)
_SHORT = {
    servers.POD_SECURITY: "Pod Security's",
    servers.ISTIOD: "istiod's",
    servers.NGINX: "nginx's",
}


def _reviews(results: Results) -> Iterator[Target]:
    for ours, other, limit in _CPU:
        what = f"CPU of {_OURS[ours]}, of {_SHORT[other]}"
        yield from _compared(results, ours, other, what, limit, lambda sample: sample.cpu_us)
    for ours, webhook in _OURS.items():
        for other in (servers.POD_SECURITY, servers.ISTIOD):
            for name, value in _LATENCIES.items():
                what = f"{name} of {webhook}, of {_SHORT[other]}"
                yield from _compared(results, ours, other, what, 1.0, value)


_LATENCIES: dict[str, Callable[[Sample], float]] = {
    "p50": lambda sample: sample.p50,
    "p99": lambda sample: sample.p99,
}


def _compared(
    results: Results,
    ours: str,
    other: str,
    what: str,
    limit: float,
    value: Callable[[Sample], float],
) -> Iterator[Target]:
    """The ratio on the typical pod at each number of connections; all must be within the limit."""
    ratios = {
        mine.clients: _ratio(mine.samples, theirs.samples, value)
        for mine in results.cells
        if (mine.row, mine.body) == (ours, "typical")
        and (theirs := results.cell(other, "typical", mine.clients))
    }
    if ratios:
        met = all(ratio <= limit for ratio in ratios.values())
        yield Target(what, f"≤ {limit:g}", _by_clients(ratios), met)


def _creations(results: Results) -> Iterator[Target]:
    ratios = {
        ours.clients: _ratio(ours.samples, none.samples, lambda sample: sample.rate)
        for ours, none in _both(results)
    }
    if ratios:
        met = all(ratio >= 0.9 for ratio in ratios.values())
        yield Target("pod creations a second, of those without", "≥ 0.9", _by_clients(ratios), met)
    for ours, none in _both(results):
        if ours.clients == 8:
            added = [m.p99 - o.p99 for m, o in zip(ours.samples, none.samples, strict=True)]
            ms = statistics.median(added) / 1000
            yield Target("p99 added to a pod creation, c=8", "≤ 2 ms", f"{ms:.1f} ms", ms <= 2)


def _both(results: Results) -> Iterator[tuple[Creations, Creations]]:
    for ours in results.creations:
        none = results.creation(creations.NONE, ours.clients)
        if ours.row == creations.OURS and none:
            yield ours, none


def _server(results: Results) -> Iterator[Target]:
    if server := results.servers.get(servers.OURS):
        yield Target("PSS after the load", "≤ 60 MiB", f"{server.pss:.0f} MiB", server.pss <= 60)
    if results.ready_ms:
        ready = statistics.median(results.ready_ms)
        yield Target("ready after", "< 1 s", f"{ready / 1000:.2f} s", ready < 1000)
    for ours, name in _OURS.items():
        what = f"CPU of {name}: a pod of 1 MiB, of a typical one"
        ratios = grown(results, ours)
        if ratios:
            met = all(ratio <= 12 for ratio in ratios.values())
            floor = _by_clients(grown(results, servers.NGINX))
            yield Target(what, "≤ 12", f"{_by_clients(ratios)} (nginx: {floor})", met)


def grown(results: Results, row: str) -> dict[int, float]:
    """How many times a typical pod's CPU one of 1 MiB takes, by the number of connections."""
    return {
        typical.clients: median(large, "cpu_us") / median(typical, "cpu_us")
        for typical in results.cells
        if (typical.row, typical.body) == (row, "typical")
        and (large := results.cell(row, "large", typical.clients))
    }


def median(cell: Cell | Creations, name: str) -> float:
    """The median of one figure over the rounds."""
    values: list[float] = [getattr(sample, name) for sample in cell.samples]
    return statistics.median(values)


def _ratio(
    ours: Sequence[Sample], theirs: Sequence[Sample], value: Callable[[Sample], float]
) -> float:
    return statistics.median(value(m) / value(t) for m, t in zip(ours, theirs, strict=True))


def _by_clients(ratios: dict[int, float]) -> str:
    shown = " · ".join(_ratio_text(ratio) for ratio in ratios.values())
    return f"{shown} at c={' · '.join(map(str, ratios))}"


def _ratio_text(ratio: float) -> str:
    if ratio < 0.1:
        return f"{ratio:.3f}"
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
