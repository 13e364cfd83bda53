"""The readiness and the liveness of the server: /readyz and /livez."""

import datetime
import time

#: The server becomes unready this long before its certificate expires, so that operators notice in
#: time. The margin is a minute, or a twentieth of the lifetime if that is shorter.
_MARGIN, _SHARE = datetime.timedelta(minutes=1), 20
#: Seconds for which a usable certificate may be on disk without being served. After that, a restart
#: may help.
_UNSERVED = 600.0


class Health:
    """The state of one worker."""

    def __init__(self) -> None:
        #: Whether the server is shutting down. It still answers the remaining requests.
        self.draining = False
        self._unready_from: datetime.datetime | None = None
        self._unserved_since: float | None = None

    def certified(self, start: datetime.datetime, end: datetime.datetime) -> None:
        """Record the validity period of the certificate that is served from now on."""
        self._unready_from = end - min(_MARGIN, (end - start) / _SHARE)
        self._unserved_since = None

    def refused(self, *, good: bool) -> None:
        """Record that the certificate on disk can't be served. `good`: it may be valid."""
        if not good:
            self._unserved_since = None
        elif self._unserved_since is None:
            self._unserved_since = time.monotonic()

    def trouble(self) -> str | None:
        """Return in a few words why the server is not ready; None if it is ready."""
        if self.draining:
            return "about to end"
        if self._unready_from and datetime.datetime.now(datetime.UTC) >= self._unready_from:
            return "the serving certificate expires, or has expired"
        return None

    def deadlock(self) -> str | None:
        """Return in a few words why the server should be restarted; None if it is healthy."""
        since = self._unserved_since
        if since is not None and time.monotonic() - since >= _UNSERVED:
            return "a valid certificate has been on disk for 10 minutes and can't be served"
        return None
