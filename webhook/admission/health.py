"""Whether the server should be asked at all: what /readyz tells."""

import datetime

#: For so long before its certificate expires the server is not ready, so that it is seen before it
#: counts: a minute, or a twentieth of a life that is shorter than 20 minutes.
_MARGIN, _SHARE = datetime.timedelta(minutes=1), 20


class Health:
    """The state of one worker."""

    def __init__(self) -> None:
        #: It is about to end, and answers what still comes.
        self.draining = False
        self._unready_from: datetime.datetime | None = None

    def certified(self, start: datetime.datetime, end: datetime.datetime) -> None:
        """Note the life of the certificate that is served from now on."""
        self._unready_from = end - min(_MARGIN, (end - start) / _SHARE)

    def trouble(self) -> str | None:
        """Why it should not be asked, in a few words; None where all is well."""
        if self.draining:
            return "about to end"
        if self._unready_from and datetime.datetime.now(datetime.UTC) >= self._unready_from:
            return "the serving certificate expires, or has expired"
        return None
