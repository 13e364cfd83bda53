"""How long the API server waits, and whether this process can still answer in time.

The API server says how long it waits in the query: `?timeout=5s`
(k8s.io/apiserver pkg/admission/plugin/webhook). What it no longer waits for is not worth judging.
"""

import asyncio
import re
import time
from functools import lru_cache

#: Seconds in which a request must be whole and answered where it does not say so itself; the API
#: server's own default, and more than most give.
DEFAULT = 10.0
#: The share of its time that a request may have waited already when its turn comes.
_SHARE = 0.5
_EVERY = 0.05


@lru_cache(maxsize=64)
def seconds(query: bytes) -> float:
    """The seconds in a query as the API server writes it; `DEFAULT` at most, or where none are."""
    found = re.fullmatch(rb"timeout=(\d{1,3})s", query)
    return min(float(found[1]), DEFAULT) if found else DEFAULT


class Lag:
    """How far the event loop is behind: so long whoever is served has waited."""

    def __init__(self) -> None:
        self._due = float("inf")
        #: Seconds that the loop was late in all, up to the turn that it is in.
        self.behind = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure from now on."""
        now = time.monotonic()
        self.behind += max(0.0, now - self._due)
        self._due = now + _EVERY
        loop.call_later(_EVERY, self.start, loop)

    def too_late(self, since: float, allowed: float) -> bool:
        """Whether a request that may take so many seconds should be turned away at once.

        `since` is what `behind` was when it began to come: what comes at a turn of the loop may
        have waited for all of it, and a large one waits for several. Time that the loop spent
        asleep is the sender's, and does not count. Turning away costs little, so that the next ones
        are answered in time; else all would be answered after their callers have given up.
        """
        late = max(0.0, time.monotonic() - self._due)
        return self.behind + late - since > allowed * _SHARE
