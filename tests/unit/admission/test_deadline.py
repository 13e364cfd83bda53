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
        late = []
        for _ in range(10):
            await asyncio.sleep(0.02)
            late.append(lag.too_late(10))
        return late

    assert not any(asyncio.run(keep_up()))


def test_a_loop_that_is_behind_by_half_the_time_is_late_until_it_has_caught_up() -> None:
    async def fall_behind() -> tuple[bool, bool, bool]:
        lag = Lag()
        lag.start(asyncio.get_running_loop())
        time.sleep(0.6)  # what is wanted is to hold the loop up
        during = lag.too_late(1), lag.too_late(10)
        await asyncio.sleep(0.01)
        return *during, lag.too_late(1)

    assert asyncio.run(fall_behind()) == (True, False, False)


def test_nothing_is_late_before_the_loop_runs() -> None:
    assert not Lag().too_late(0.001)
