"""The text of a reading, and the merge of several."""

import pytest

from webhook.policy.plaintext import Accepts, Opening, Reading, together

OPEN, OTHER = Opening("it is open", "close it"), Opening("so is this", "close it too")


@pytest.mark.parametrize(
    ("reading", "accepts", "openings"),
    [
        (Reading(None, {}), "no", []),
        (Reading(None, {"80": None}), "no", []),
        (Reading(OPEN, {}), "yes", [("all ports", OPEN)]),
        (Reading(OPEN, {"80": OPEN}), "yes", [("all ports", OPEN)]),
        (Reading(OPEN, {"443": None, "80": None}), "partly", [("all ports but 80, 443", OPEN)]),
        (Reading(None, {"80": OPEN}), "partly", [("port 80", OPEN)]),
        (Reading(None, {"http": OPEN, "9": OPEN, "10": OTHER}), "partly",
         [("ports 9, http", OPEN), ("port 10", OTHER)]),
        (Reading(OPEN, {"80": OTHER, "443": None}), "partly",
         [("all ports but 443", OPEN), ("port 80", OTHER)]),
    ],
)  # fmt: skip
def test_a_reading_names_each_way_in_once(
    reading: Reading, accepts: str, openings: list[tuple[str, Opening]]
) -> None:
    assert reading.accepts == accepts
    assert reading.openings() == openings


@pytest.mark.parametrize(
    ("found", "whole"),
    [
        (["no", "no"], "no"),
        (["yes"], "yes"),
        (["partly"], "partly"),
        (["yes", "no"], "partly"),
        (["unknown", "yes"], "partly"),
        (["unknown", "no"], "unknown"),
        (["unknown"], "unknown"),
        ([], "unknown"),
    ],
)
def test_what_is_not_known_is_never_taken_for_closed(found: list[Accepts], whole: str) -> None:
    assert together(found) == whole
