"""Whether the server should be asked, and whether it should be restarted: /readyz and /livez."""

import datetime
import time

#: For so long before its certificate expires the server is not ready, so that this is seen before
#: it matters: a minute, or a twentieth of a life that is shorter than 20 minutes.
_MARGIN, _SHARE = datetime.timedelta(minutes=1), 20
#: Seconds for which a good certificate may be on disk and not served; then a restart may help.
_UNSERVED = 600.0


class Health:
    """The state of one worker."""

    def __init__(self) -> None:
        #: It is about to end, and answers what still comes.
        self.draining = False
        self._unready_from: datetime.datetime | None = None
        self._unserved_since: float | None = None

    def certified(self, start: datetime.datetime, end: datetime.datetime) -> None:
        """Note the life of the certificate that is served from now on."""
        self._unready_from = end - min(_MARGIN, (end - start) / _SHARE)
        self._unserved_since = None

    def refused(self, *, good: bool) -> None:
        """Note that the certificate on disk can't be served, though it may be a good one."""
        if not good:
            self._unserved_since = None
        elif self._unserved_since is None:
            self._unserved_since = time.monotonic()

    def trouble(self) -> str | None:
        """Return why it should not be asked, in a few words; None if all is well."""
        if self.draining:
            return "about to end"
        if self._unready_from and datetime.datetime.now(datetime.UTC) >= self._unready_from:
            return "the serving certificate expires, or has expired"
        return None

    def deadlock(self) -> str | None:
        """Return why it should be restarted, in a few words; None if all is well."""
        since = self._unserved_since
        if since is not None and time.monotonic() - since >= _UNSERVED:
            return "a valid certificate has been on disk for 10 minutes and can't be served"
        return None
