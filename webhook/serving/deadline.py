"""How long the API server waits for a response, and whether this process can still meet that time.

The API server writes its timeout into the query: `?timeout=5s` (k8s.io/apiserver
pkg/admission/plugin/webhook). The server does not judge a review if the API server no longer waits
for it.
"""

import re
import time

#: Seconds in which a request must arrive and be answered if its query has no timeout. This is the
#: API server's own default, and more than most configurations set.
DEFAULT = 10.0
#: A request that has waited for more than this share of its time is rejected.
_SHARE = 0.5
#: If a wait for events took longer than this many seconds, the loop was idle before.
_SLEPT = 0.001


def seconds(query: bytes) -> float:
    """Return the timeout in a query in seconds. The default and the maximum are 10."""
    found = re.fullmatch(rb"timeout=(\d{1,3})s", query)
    return min(float(found[1]), DEFAULT) if found else DEFAULT


class Lag:
    """The time for which the loop was busy. No request waited longer than this for the process.

    Time in which the loop slept does not count, because it waited for clients. Time in which it
    overslept does count: the process was stopped or got no CPU.
    """

    def __init__(self) -> None:
        self._woke = time.monotonic()
        self._busy = 0.0
        #: The busy time at the start of the last wait. What it did not find became ready later.
        self._seen = 0.0
        #: The `since` argument of `too_late` for a request whose first byte is read in this turn.
        self.since = 0.0

    def turn(self, began: float, timeout: float) -> float:
        """Record that a wait of at most `timeout` seconds has ended. Return the time now."""
        woke = time.monotonic()
        slept = woke - began
        worked = self._busy + began - self._woke
        # An event that was ready immediately may have become ready just after the previous look at
        # the sockets. If that wait overslept, its last look may have been at its start: a process
        # that is stopped (SIGSTOP) does not look again when it continues.
        self.since = worked if slept > _SLEPT else self._seen
        self._busy = worked + max(0.0, slept - timeout)
        self._seen = worked
        self._woke = woke
        return woke

    def behind(self) -> float:
        """Return the total time in seconds for which the loop was busy."""
        return self._busy + time.monotonic() - self._woke

    def too_late(self, since: float, allowed: float) -> bool:
        """Return whether a request has already waited for half of its time limit (in seconds).

        Rejecting such a request is cheap, so the next requests are answered in time. Without this,
        all responses would arrive after their callers have given up.
        """
        return self.behind() - since > allowed * _SHARE
