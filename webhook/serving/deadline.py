"""How long the API server waits, and whether this process can still answer in time.

The API server writes its timeout into the query: `?timeout=5s`
(k8s.io/apiserver pkg/admission/plugin/webhook). A review that it no longer waits for is not judged.
"""

import re
import time
from functools import lru_cache

#: Seconds in which a request must be whole and answered if it does not say so itself. The API
#: server's own default, and more than most configurations give.
DEFAULT = 10.0
#: The share of its time that a request may have waited when its turn comes.
_SHARE = 0.5
#: A wait for events that took longer than this many seconds was a real one: the loop was idle.
_SLEPT = 0.001


@lru_cache(maxsize=64)
def seconds(query: bytes) -> float:
    """Return the seconds in a query as the API server writes it; at most, and by default, 10."""
    found = re.fullmatch(rb"timeout=(\d{1,3})s", query)
    return min(float(found[1]), DEFAULT) if found else DEFAULT


class Lag:
    """The time for which the loop was busy: a request has waited for this process at most so long.

    Time that the loop slept is the client's, and does not count. Time that it overslept, because
    the process was stopped or had no CPU, does.
    """

    def __init__(self) -> None:
        self._woke = time.monotonic()
        self._busy = 0.0
        #: The value for `too_late` of a request whose first byte is read in this turn.
        self.since = 0.0

    def turn(self, began: float, timeout: float) -> float:
        """Note that a wait for events, for at most `timeout` seconds, has ended; return now."""
        woke = time.monotonic()
        slept = woke - began
        # An event that was ready at once may have become so just after the wait before this one.
        worked = self._busy + began - self._woke
        self.since = worked if slept > _SLEPT else self._busy
        self._busy = worked + max(0.0, slept - timeout)
        self._woke = woke
        return woke

    def behind(self) -> float:
        """Return the seconds for which the loop was busy, in all."""
        return self._busy + time.monotonic() - self._woke

    def too_late(self, since: float, allowed: float) -> bool:
        """Return whether a request has waited for half of the seconds that it is allowed to take.

        To turn such a request away costs little, so that the next ones are answered in time.
        Otherwise all would be answered after their callers have given up.
        """
        return self.behind() - since > allowed * _SHARE
