"""The coverage of the scans, as a line and as a sentence."""

import datetime

from tests.unit.cluster.dashboard.reports import NOW
from webhook.cluster.auditor.history import Point
from webhook.cluster.dashboard.history import HEIGHT, WIDTH, history


def points(*coverages: int | None) -> list[Point]:
    return [
        Point(
            at=NOW + datetime.timedelta(minutes=5 * number),
            coverage=coverage,
            namespaces={"shop": 10} if coverage == 50 else {},
        )
        for number, coverage in enumerate(coverages)
    ]


def test_before_the_second_scan_with_pods_there_is_no_history() -> None:
    assert history([]) is None
    assert history(points(50)) is None
    assert history(points(50, None)) is None


def test_it_goes_from_the_first_to_the_last_within_its_box() -> None:
    made = history(points(0, 100, 40))
    assert made is not None
    assert (made.first, made.last, made.lowest, made.scans) == (0, 40, 0, 3)
    assert made.line == f"4.0,{HEIGHT - 4:.1f} {WIDTH / 2:.1f},4.0 {WIDTH - 4:.1f},37.6"
    assert made.end == (WIDTH - 4, 37.6)


def test_a_namespaces_own_history_has_the_scans_in_which_it_had_pods() -> None:
    made = history(points(50, 60, 50), "shop")
    assert made is not None
    assert (made.first, made.last, made.scans) == (10, 10, 2)
    assert history(points(50, 60, 50), "other") is None


def test_two_scans_at_the_same_moment_do_not_divide_by_zero() -> None:
    twice = [points(50)[0], points(60)[0]]
    made = history(twice)
    assert made is not None
    assert made.scans == 2
