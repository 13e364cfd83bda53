"""Reloads the serving certificate from changed files without a restart.

A new certificate gets a new TLS context, and the next handshake uses it. A context in use is never
changed, because a failed load would leave it without a key.
"""

import ssl
import time
from pathlib import Path

from webhook.log import Log
from webhook.serving import tls
from webhook.serving.health import Health
from webhook.serving.metrics import CertificateMetrics

log = Log(__name__)

#: Seconds between two checks of the files. A check is three calls of stat, a few microseconds.
_EVERY = 0.5
#: Seconds until a rejected pair is tried again. The pause doubles up to the second number. The pair
#: may become valid, or the obstacle may disappear, without a change of the files.
_RETRY, _LONGEST = 1.0, 60.0

#: What identifies a version of a file. Kubernetes swaps a symbolic link, other tools rewrite the
#: file.
_Print = tuple[tuple[int, int, int], ...]


class Rotation:
    """The current certificate, from files that may change at any time."""

    def __init__(
        self, files: tls.Files, last: tls.Certificate, metrics: CertificateMetrics, health: Health
    ) -> None:
        """Load the files. Serve `last`, which was loaded before, if they can't be served now."""
        self._files, self._metrics, self._health = files, metrics, health
        self._current = last
        self._seen: _Print = ()
        self._looked = self._retry_at = 0.0
        #: Why the pair on disk is not served, and the seconds until the next attempt.
        self._refused, self._pause = "", _RETRY
        self._adopt(last)
        self._load(first=True)

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context for a new connection."""
        return self._current.context

    def look(self, now: float | None = None) -> None:
        """Load a changed pair if it can be served, else keep the current one. Raise nothing.

        With `now` (from `time.monotonic`), check at most twice a second, however often it is
        called.
        """
        if now is not None:
            if now - self._looked < _EVERY:
                return
            self._looked = now
        due = bool(self._refused) and time.monotonic() >= self._retry_at
        if due or self._print() != self._seen:
            self._load()

    def _load(self, *, first: bool = False) -> None:
        seen = self._print()
        if seen != self._seen:
            self._pause, self._refused = _RETRY, ""
        self._seen = seen
        try:
            fresh = tls.load(self._files)
        except Exception as error:
            # Catch every error, because the server needs this check for its whole lifetime.
            self._refuse(error, count=not first)
            return
        self._refused = ""
        if not first:
            self._metrics.certificate_reload("loaded")
            log.info("new certificate", expires=fresh.end.isoformat())
        self._adopt(fresh)

    def _refuse(self, error: Exception, *, count: bool) -> None:
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST)
        self._health.refused(good=getattr(error, "ours", True))
        why = str(error) or type(error).__name__
        if why != self._refused:
            self._refused = why
            if count:
                self._metrics.certificate_reload("refused")
            log.warning("kept the last certificate", why=why)

    def _adopt(self, fresh: tls.Certificate) -> None:
        self._current = fresh
        self._health.certified(fresh.start, fresh.end)
        self._metrics.certificate_expiry.set(fresh.end.timestamp())

    def _print(self) -> _Print:
        return tuple(_identity(file) for file in self._files.paths)


def _identity(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
