"""Traffic in words."""

import pytest

from tests.unit.cluster.traffic.test_edges import KEY
from webhook.cluster.audit.traffic import amount, sender_name, span
from webhook.cluster.traffic import Count, Edge


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3600, "hour"), (86_400, "day"), (60, "minute"), (5400, "90 min"), (604_800, "7 d"),
     (7200, "2 h"), (45, "45 s")],
)  # fmt: skip
def test_a_time_is_reported_in_the_largest_unit_that_fits(seconds: int, words: str) -> None:
    assert span(seconds) == words


def test_what_was_plaintext_is_counted_and_nothing_else() -> None:
    edge = Edge(
        **KEY._asdict(), requests=Count(mutual=37, plaintext=3), connections=Count(mutual=4)
    )
    assert amount(edge) == "3 of 40 requests"
    both = Edge(
        **KEY._asdict(), requests=Count(plaintext=1), connections=Count(plaintext=2, unknown=1)
    )
    assert amount(both) == "1 of 1 requests and 2 of 3 connections"


def test_a_name_from_a_label_is_printable_and_not_too_long() -> None:
    shown = sender_name("a\x1b[31m\u202e\n" + "x" * 5000)
    assert shown.isprintable()
    assert len(shown) == 253
    assert sender_name("") == "clients outside the mesh"
