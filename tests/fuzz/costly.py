"""A search for the pod whose reviews take longest, led by the time that they take.

A pod gets several of the things of `tests.fuzz.worst`, each in some size, and is sent as bytes to
the server's own reviewer: to be mutated, created and updated.
"""

import time
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.fuzz import worst
from tests.fuzz.worst import Json
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings
from webhook.serving.http import BODY_LIMIT

#: Seconds of CPU that any review may take, on a machine that needs `USUAL` for `_calibrated`.
MOST, USUAL = 0.25, 0.05
_REVIEWER = Reviewer(Settings(), Metrics("fuzz"))


class Cost(NamedTuple):
    """What reviews of one pod took: the longest of them, and what the pod had much of."""

    seconds: float
    how: str
    size: int
    what: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        much = ", ".join(f"{name} ({size:,} bytes)" for name, size in self.what)
        return f"{self.seconds:.3f} s to {self.how} {self.size:,} bytes: {much}"


#: Sizes of one thing: the most is paid where all of it is read, and that is not of the largest.
_SIZES = st.sampled_from((2_000, 30_000, 60_000, 120_000, 250_000) * 3 + (worst.LARGEST,)) | (
    st.integers(1_000, 250_000)
)


def recipes() -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return what a pod may have much of, and how much."""
    return st.lists(
        st.tuples(st.sampled_from(worst.CASES), _SIZES),
        min_size=1, max_size=5, unique_by=lambda one: one[0],
    )  # fmt: skip


def limit() -> float:
    """Return the seconds that a review may take on this machine, now."""
    return MOST * max(1.0, _calibrated() / USUAL)


def _calibrated() -> float:
    """Return how long something takes that takes `USUAL` on the machine that the limit is for."""
    before = time.process_time()
    sum(len(str(number)) for number in range(400_000))
    return time.process_time() - before


def cost(mesh: str, recipe: list[tuple[str, int]]) -> Cost:
    """Return what the reviews of a pod cost."""
    submitted = worst.mixed(mesh, recipe, submitted=True)
    stored = worst.mixed(mesh, recipe)
    labels = {**stored["metadata"].get("labels", {}), "touched": "yes"}
    updated = {**stored, "metadata": {**stored["metadata"], "labels": labels}}
    reviews: list[tuple[str, str, Json, Any]] = [
        ("mutate", f"/mutate/{mesh}", submitted, None),
        ("validate", f"/validate/{mesh}/enforce", stored, None),
        ("validate a change of", f"/validate/{mesh}/enforce", updated, stored),
        ("validate, for ingress,", f"/validate/{mesh}/warn/ingress", stored, None),
    ]
    longest = Cost(0.0, "", 0, tuple(recipe))
    for how, path, now, old in reviews:
        body = worst.body(now, old)
        if len(body) <= BODY_LIMIT:
            before = time.process_time()
            _REVIEWER.answer(_REVIEWER.routes[path], body)
            seconds = time.process_time() - before
            longest = max(longest, Cost(seconds, how, len(body), tuple(recipe)))
    return longest
