"""Whether a run met its targets, told from figures that are made up."""

import pytest

from tests.bench import creations, servers, targets
from tests.bench.results import Cell, Creations, Results, Sample, Server


def sample(*, cpu_us: float = 100.0, rate: float = 1000.0, p99: int = 1000) -> Sample:
    return Sample(count=1000, rate=rate, cpu_us=cpu_us, p50=500, p99=p99, worst=p99)


def found(cells: list[Cell], made: list[Creations] | None = None) -> Results:
    results = Results("2026-01-01", {}, {}, rounds=1, seconds=1.0, sizes={})
    results.cells, results.creations = cells, made or []
    return results


def target(results: Results, start: str) -> targets.Target:
    (one,) = [one for one in targets.evaluate(results) if one.what.startswith(start)]
    return one


def versus(ours: list[float], theirs: list[float], clients: int = 8) -> list[Cell]:
    return [
        Cell(row, "typical", clients, [sample(cpu_us=cpu) for cpu in values])
        for row, values in ((servers.OURS, ours), (servers.POD_SECURITY, theirs))
    ]


CPU = "CPU of validate, of Pod Security's"


def test_a_ratio_at_the_limit_is_met() -> None:
    assert target(found(versus([25.0], [100.0])), CPU).met


def test_a_ratio_above_the_limit_is_missed_and_shown() -> None:
    one = target(found(versus([30.0], [100.0])), CPU)
    assert (one.met, one.measured) == (False, "0.30 at c=8")


def test_ratios_are_of_the_same_round() -> None:
    # The machine was four times as slow in the second round: medians of each would tell 0.1.
    one = target(found(versus([20.0, 80.0, 20.0], [100.0, 400.0, 400.0])), CPU)
    assert one.measured == "0.20 at c=8"


def test_one_number_of_connections_above_the_limit_misses_the_target() -> None:
    cells = versus([20.0], [100.0], clients=1) + versus([30.0], [100.0], clients=8)
    one = target(found(cells), CPU)
    assert (one.met, one.measured) == (False, "0.20 · 0.30 at c=1 · 8")


@pytest.mark.parametrize(("p99", "met"), [(12_000, True), (12_100, False)])
def test_the_latency_added_to_a_creation_is_a_difference(p99: int, met: bool) -> None:
    made = [
        Creations(creations.NONE, 8, [sample(p99=10_000)], {}),
        Creations(creations.OURS, 8, [sample(p99=p99)], {}),
    ]
    assert target(found([], made), "p99 added").met is met


def test_too_few_creations_a_second_miss_the_target() -> None:
    made = [
        Creations(creations.NONE, 8, [sample(rate=100.0)], {}),
        Creations(creations.OURS, 8, [sample(rate=89.0)], {}),
    ]
    assert not target(found([], made), "pod creations").met


def test_memory_is_measured_after_all_load() -> None:
    results = found([])
    results.servers[servers.OURS] = Server(pss_start=40.0, pss_typical=50.0, pss=61.0)
    one = target(results, "PSS")
    assert (one.met, one.measured) == (False, "61 MiB")
