"""The answers of /readyz."""

import datetime

import pytest

from webhook.serving.health import Health

MINUTE = datetime.timedelta(minutes=1)


def health(life: datetime.timedelta, left: datetime.timedelta) -> Health:
    """Return the health of a server whose certificate has a lifetime, with some of it left."""
    made = Health()
    end = datetime.datetime.now(datetime.UTC) + left
    made.certified(end - life, end)
    return made


def test_a_server_is_ready_unless_something_is_wrong() -> None:
    assert Health().trouble() is None
    assert health(90 * 24 * 60 * MINUTE, 2 * MINUTE).trouble() is None


@pytest.mark.parametrize("left", [MINUTE / 2, 0 * MINUTE, -MINUTE])
def test_it_is_not_ready_from_a_minute_before_its_certificate_ends(
    left: datetime.timedelta,
) -> None:
    assert health(90 * 24 * 60 * MINUTE, left).trouble()


def test_a_short_life_leaves_a_share_of_it() -> None:
    assert health(MINUTE, MINUTE / 10).trouble() is None
    assert health(MINUTE, MINUTE / 30).trouble()


def test_a_new_certificate_makes_it_ready_again() -> None:
    made = health(MINUTE, -MINUTE)
    now = datetime.datetime.now(datetime.UTC)
    made.certified(now, now + 60 * MINUTE)
    assert made.trouble() is None


def test_it_is_not_ready_while_it_drains() -> None:
    made = Health()
    made.draining = True
    assert made.trouble() == "about to end"
