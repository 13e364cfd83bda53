"""What is logged, and how much of it."""

import logging
from typing import Any

import pytest

from webhook.admission.logs import Sparing


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("webhook.admission.logs.time", made)
    return made


def record(text: Any = "bad", *, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("test", level, __file__, 1, text, None, None)


def test_a_few_warnings_of_a_kind_are_written_each_second(clock: Clock) -> None:
    sparing = Sparing()
    for _ in range(3):
        assert sum(sparing.filter(record()) for _ in range(100)) == 10
        assert sparing.filter(record("another"))
        clock.now += 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bad", "bad (15 more like it were held back)"),
        ({"event": "bad"}, {"event": "bad", "held_back": 15}),
    ],
)
def test_the_next_one_tells_how_many_were_held_back(
    text: object, told: object, clock: Clock
) -> None:
    sparing = Sparing()
    for _ in range(25):
        sparing.filter(record(text))
    for expected in (told, text):
        clock.now += 1
        later = record(text)
        assert sparing.filter(later)
        assert later.msg == expected


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR, logging.CRITICAL])
def test_verdicts_and_errors_are_all_written(level: int, clock: Clock) -> None:
    sparing = Sparing()
    assert all(sparing.filter(record(level=level)) for _ in range(100))


def test_kinds_without_end_fill_no_memory(clock: Clock) -> None:
    sparing = Sparing()
    for number in range(2000):
        sparing.filter(record(f"kind {number}"))
    assert len(sparing._seen) <= 256
