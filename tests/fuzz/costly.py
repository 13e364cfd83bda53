"""A search for the pod whose reviews take longest, guided by the measured time.

A pod gets several large parts from `tests.fuzz.worst`, each of some size. It is sent as bytes to
the server's own reviewer, which mutates it and judges its creation and update.
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

#: The maximum CPU seconds of a review, on a machine that needs `USUAL` seconds for `_calibrated`.
MOST, USUAL = 0.25, 0.05
_REVIEWER = Reviewer(Settings(), Metrics("fuzz"))


class Cost(NamedTuple):
    """The cost of one pod's reviews: the longest of them, and the pod's large parts."""

    seconds: float
    how: str
    size: int
    what: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        much = ", ".join(f"{name} ({size:,} bytes)" for name, size in self.what)
        return f"{self.seconds:.3f} s to {self.how} {self.size:,} bytes: {much}"


#: The sizes of a part. The most expensive one is the largest that is still read completely, not the
#: largest of all.
_SIZES = st.sampled_from((2_000, 30_000, 60_000, 120_000, 250_000) * 3 + (worst.LARGEST,)) | (
    st.integers(1_000, 250_000)
)


def recipes() -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return the strategy for a pod's large parts with their sizes."""
    return st.lists(
        st.tuples(st.sampled_from(worst.CASES), _SIZES),
        min_size=1, max_size=5, unique_by=lambda one: one[0],
    )  # fmt: skip


def limit() -> float:
    """Return the time limit of a review on this machine now, in seconds."""
    return MOST * max(1.0, _calibrated() / USUAL)


def _calibrated() -> float:
    """Return the duration of a fixed task. On the reference machine it is `USUAL` seconds."""
    before = time.process_time()
    sum(len(str(number)) for number in range(400_000))
    return time.process_time() - before


def cost(mesh: str, recipe: list[tuple[str, int]]) -> Cost:
    """Return the cost of a pod's reviews."""
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
