"""The time that a review may take."""

import pytest

from webhook.serving.deadline import DEFAULT, Lag, seconds


@pytest.mark.parametrize(
    ("query", "expected"),
    [(b"timeout=5s", 5), (b"timeout=1s", 1), (b"timeout=10s", 10), (b"timeout=30s", DEFAULT)],
)
def test_the_api_server_says_how_long_it_waits(query: bytes, expected: float) -> None:
    assert seconds(query) == expected


@pytest.mark.parametrize(
    "query",
    [b"", b"timeout=", b"timeout=s", b"timeout=-5s", b"timeout=5", b"timeout=5s&x=y", b"Timeout=5s",
     b"timeout=1e3s", b"timeout=99999999999999s", b"timeout=\xb2s", b"timeout=5s\n"],
)  # fmt: skip
def test_anything_else_is_the_default(query: bytes) -> None:
    assert seconds(query) == DEFAULT


class Clock:
    """A turn of a loop, by the clock that it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("webhook.serving.deadline.time", self)
        self.lag = Lag()

    def monotonic(self) -> float:
        return self.now

    def turn(self, *, slept: float = 0.0, most: float = 0.1, worked: float = 0.0) -> float:
        """Wait for events, then work. Return the `since` of a request of this turn."""
        began = self.now
        self.now += slept
        self.lag.turn(began, most)
        since = self.lag.since
        self.now += worked
        return since


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_loop_that_keeps_up_is_not_late(clock: Clock) -> None:
    for _ in range(100):
        since = clock.turn(slept=0.1, worked=0.01)
        assert not clock.lag.too_late(since, 0.03)


def test_a_request_that_waited_for_half_of_its_time_is_late_and_the_next_is_not(
    clock: Clock,
) -> None:
    since = clock.turn(slept=0.05, worked=0.6)
    assert clock.lag.too_late(since, 1)
    assert not clock.lag.too_late(since, 10)
    # It was ready at once, so it may have arrived just after the previous wait.
    assert clock.lag.too_late(clock.turn(), 1)
    assert not clock.lag.too_late(clock.turn(slept=0.05), 1)


def test_several_turns_add_up(clock: Clock) -> None:
    since = clock.turn(slept=0.05, worked=0.35)
    late = []
    for _ in range(3):
        late.append(clock.lag.too_late(since, 1))
        clock.turn(slept=0.06, worked=0.35)
    assert late == [False, True, True]


def test_time_in_which_the_client_was_waited_for_does_not_count(clock: Clock) -> None:
    since = clock.turn(slept=0.05)
    for _ in range(20):
        clock.turn(slept=0.1)
    assert not clock.lag.too_late(since, 0.01)


def test_time_in_which_the_process_stood_still_does(clock: Clock) -> None:
    since = clock.turn(slept=1.3, most=0.1)
    assert clock.lag.too_late(since, 2)
    assert not clock.lag.too_late(since, 3)


def test_it_also_does_if_only_the_next_wait_finds_the_request(clock: Clock) -> None:
    """After SIGCONT, epoll returns what was ready when it was stopped, or nothing."""
    clock.turn(slept=1.3, most=0.1)
    since = clock.turn()
    assert clock.lag.too_late(since, 2)
    assert not clock.lag.too_late(since, 3)
    # What arrives later has not waited.
    assert not clock.lag.too_late(clock.turn(), 0.1)


def test_a_wait_in_which_nothing_arrived_is_no_delay(clock: Clock) -> None:
    clock.turn(slept=0.1, most=0.1)
    assert not clock.lag.too_late(clock.turn(), 0.001)
