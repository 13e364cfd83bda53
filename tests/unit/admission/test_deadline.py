"""How long a review may take."""

import asyncio
import time

import pytest

from webhook.admission.deadline import DEFAULT, Lag, seconds


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


def test_a_loop_that_keeps_up_is_not_late() -> None:
    async def keep_up() -> list[bool]:
        lag = Lag()
        lag.start(asyncio.get_running_loop())
        since, late = lag.behind, []
        for _ in range(10):
            await asyncio.sleep(0.02)
            late.append(lag.too_late(since, 10))
        return late

    assert not any(asyncio.run(keep_up()))


def test_who_waited_for_half_of_its_time_is_late_and_who_comes_afterwards_is_not() -> None:
    async def fall_behind() -> dict[str, bool]:
        lag = Lag()
        lag.start(asyncio.get_running_loop())
        since = lag.behind
        time.sleep(0.6)  # what is wanted is to hold the loop up
        found = {"short": lag.too_late(since, 1), "long": lag.too_late(since, 10)}
        await asyncio.sleep(0.01)
        found["still"] = lag.too_late(since, 1)
        found["next"] = lag.too_late(lag.behind, 1)
        return found

    late = {"short": True, "long": False, "still": True, "next": False}
    assert asyncio.run(fall_behind()) == late


def test_several_turns_add_up() -> None:
    async def fall_behind() -> list[bool]:
        lag = Lag()
        lag.start(asyncio.get_running_loop())
        since, late = lag.behind, []
        for _ in range(3):
            time.sleep(0.35)
            await asyncio.sleep(0.06)
            late.append(lag.too_late(since, 1))
        return late

    assert asyncio.run(fall_behind()) == [False, True, True]


def test_nothing_is_late_before_the_loop_runs() -> None:
    lag = Lag()
    assert not lag.too_late(lag.behind, 0.001)
