"""The coverage over time, as a line to draw and as a sentence."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from webhook.cluster.auditor.history import Point

WIDTH, HEIGHT = 240, 64
#: Space for the width of the line and for the dot at its end.
_EDGE = 4


class History(NamedTuple):
    """A line from 0 to 100 % in a box of WIDTH by HEIGHT, and its text."""

    line: str
    area: str
    end: tuple[float, float]
    first: int
    last: int
    lowest: int
    scans: int
    since: datetime.datetime
    until: datetime.datetime


def history(points: Sequence[Point], namespace: str = "") -> History | None:
    """Return the history of all pods or of one namespace; None before the second scan."""
    known = [
        (point.at, coverage)
        for point in points
        if (coverage := point.namespaces.get(namespace) if namespace else point.coverage)
        is not None
    ]
    if len(known) < 2:
        return None
    (since, first), (until, last) = known[0], known[-1]
    length = (until - since).total_seconds() or 1.0
    drawn = [
        (
            round(_EDGE + (WIDTH - 2 * _EDGE) * (at - since).total_seconds() / length, 1),
            round(_EDGE + (HEIGHT - 2 * _EDGE) * (100 - coverage) / 100, 1),
        )
        for at, coverage in known
    ]
    line = " ".join(f"{x},{y}" for x, y in drawn)
    floor = HEIGHT - _EDGE
    return History(
        line=line,
        area=f"{drawn[0][0]},{floor} {line} {drawn[-1][0]},{floor}",
        end=drawn[-1],
        first=first,
        last=last,
        lowest=min(coverage for _, coverage in known),
        scans=len(known),
        since=since,
        until=until,
    )
