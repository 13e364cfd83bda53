"""Normal traffic together with hostile clients: no normal review is lost."""

import pytest

from tests.faults.hostile import (
    MALFORMED,
    OVERSIZED,
    Flood,
    dial_and_drop,
    silent,
    slow_readers,
)
from tests.faults.replica import Replica, Show, assert_all_answered

#: KiB by which a worker's memory may grow under attack: bodies of 64 MiB may be held at once.
_GROWTH = 96 * 1024


def test_two_hundred_connections_that_never_end_what_they_say(
    replica: Replica, reviews: int, show: Show
) -> None:
    with replica.load(fresh=0) as load:
        load.more(reviews // 2)
        before = load.tally.milliseconds(0.99)
        with silent(replica, 200):
            start = len(load.tally.answers)
            load.more(reviews // 2)
            during = load.tally.milliseconds(0.99, since=start)
    show(load.tally, f"p99 {before:.1f} ms without them, {during:.1f} ms with them")
    assert_all_answered(load.tally)


def test_three_thousand_connections_that_say_nothing(
    replica: Replica, reviews: int, show: Show
) -> None:
    """They cost little memory, and clients that dial again meanwhile are served."""
    with replica.load() as load:
        load.more(100)
        before = replica.resident()
        with silent(replica, 3000, kinds=1):
            load.more(reviews)
            grown = replica.resident() - before
    show(load.tally, f"the worker grew by {grown / 1024:.1f} MiB")
    assert_all_answered(load.tally)
    assert grown < _GROWTH


def test_clients_that_do_not_read_their_answers(replica: Replica, reviews: int, show: Show) -> None:
    with replica.load() as load:
        load.more(100)
        before = replica.resident()
        with slow_readers(replica, 50):
            load.more(reviews)
            grown = replica.resident() - before
    show(load.tally, f"the worker grew by {grown / 1024:.1f} MiB")
    assert_all_answered(load.tally)
    assert grown < _GROWTH


def test_ten_thousand_connections_opened_and_dropped(
    replica: Replica, reviews: int, show: Show
) -> None:
    with replica.load() as load:
        load.more(100)
        before = replica.resident()
        ways = dial_and_drop(replica, 10_000)
        load.until(reviews)
        grown = replica.resident() - before
    said = ", ".join(f"{count} {way}" for way, count in ways.items())
    show(load.tally, said, f"the worker grew by {grown / 1024:.1f} MiB")
    assert_all_answered(load.tally)
    assert grown < _GROWTH
    assert replica.worker == replica.server.workers[0], "the worker died"


@pytest.mark.parametrize("bad", [OVERSIZED, MALFORMED], ids=["oversized", "malformed"])
def test_a_flood_beside_good_traffic(
    replica: Replica, reviews: int, bad: dict[str, bytes], show: Show
) -> None:
    """Each bad request is answered, and never with a server's error."""
    replica.allowed = "Invalid HTTP request received|unanswerable review"
    with replica.load() as load:
        load.more(100)
        before = replica.resident()
        with Flood(replica, bad) as flood:
            load.more(reviews)
        grown = replica.resident() - before
    answers = sorted(flood.answers.items())
    show(
        load.tally,
        f"the worker grew by {grown / 1024:.1f} MiB; {flood.answers.total()} bad requests:",
        *(f"  {name}: {how}, {count} times" for (name, how), count in answers),
    )
    assert_all_answered(load.tally)
    assert {name for name, _ in flood.answers} == set(bad)
    assert not [key for key in flood.answers if key[1] == "no answer" or key[1].startswith("5")]
    assert grown < _GROWTH
    assert replica.worker == replica.server.workers[0], "the worker died"
