"""The serving certificate while it changes: new files are picked up without a restart.

A new certificate is a new TLS context, which new connections get by way of OpenSSL's callback for
the server name; it is called for clients that send no name, too. A context in use is never loaded
into: a failed load would leave it without a key.
"""

import asyncio
import ssl
from pathlib import Path

import structlog

from webhook.admission import tls
from webhook.admission.health import Health
from webhook.admission.metrics import CertificateMetrics

log = structlog.get_logger(__name__)

#: Seconds between two looks at the files: three calls of stat, some microseconds.
_EVERY = 0.5

#: What tells whether a file is still the same: Kubernetes swaps a symbolic link, others write.
_Print = tuple[tuple[int, int, int], ...]


class Rotation:
    """The certificate of the moment, from files that may change at any time."""

    def __init__(
        self, files: tls.Files, last: tls.Certificate, metrics: CertificateMetrics, health: Health
    ) -> None:
        """Take the files, or `last`, which was read before, where they can't be served now."""
        self._files = files
        self._metrics = metrics
        self._health = health
        self._seen = self._print()
        try:
            self._current = tls.load(files)
        except tls.CertificateError as error:
            log.warning("kept the last certificate", why=str(error))
            self._current = last
        self._adopted()
        #: What to listen with; it hands each connection over to the current one.
        self.context: ssl.SSLContext = self._current.context
        self.context.sni_callback = self._hand_over

    async def watch(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(_EVERY)
            self.look()

    def look(self) -> None:
        """Take a changed pair, if it can be served; keep the one in use if not."""
        now = self._print()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._current = tls.load(self._files)
        except tls.CertificateError as error:
            self._metrics.certificate_reload("refused")
            log.warning("kept the last certificate", why=str(error))
            return
        self._metrics.certificate_reload("loaded")
        self._adopted()
        log.info("new certificate", expires=self._current.end.isoformat())

    def _adopted(self) -> None:
        self._health.certified(self._current.start, self._current.end)
        self._metrics.certificate_expiry.set(self._current.end.timestamp())

    def _hand_over(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _old: ssl.SSLContext
    ) -> None:
        if connection.context is not self._current.context:
            connection.context = self._current.context

    def _print(self) -> _Print:
        return tuple(_identity(file) for file in self._files.paths)


def _identity(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
