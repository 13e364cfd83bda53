"""The gunicorn worker: one process, one thread, one loop."""

import ctypes
import gc
import os
import resource
import signal
import time
from typing import Any, NamedTuple

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker

from webhook.admission.lane import Lane
from webhook.admission.under_way import UnderWay
from webhook.log import Log
from webhook.serving.health import Health
from webhook.serving.loop import Loop, Port
from webhook.serving.rotation import Rotation

log = Log(__name__)

#: Reviews that together are larger than this many bytes leave gaps in the allocator's memory.
_LARGE = 1024 * 1024
#: glibc's function that returns such gaps to the system. Other C libraries have none.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


class Service(NamedTuple):
    """What a worker serves. This is the return value of gunicorn's application."""

    lane: Lane
    certificates: Rotation
    health: Health
    #: Seconds in which the worker continues after SIGTERM.
    drain: float


def report(_: Arbiter, worker: "Worker") -> None:
    """Log the review that an ended worker was answering, if any. gunicorn's master calls this."""
    worker.under_way.report(worker.pid)


class Worker(BaseWorker):  # type: ignore[misc] # gunicorn has no types
    """Serves in a fork of gunicorn's master until a signal, or until the master is gone."""

    wsgi: Service
    _loop: Loop
    _beaten = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create what worker and master share. This runs in the master, before the fork."""
        super().__init__(*arguments, **options)
        self.under_way = UnderWay()

    def init_signals(self) -> None:
        """Reset all signals until the service has started. Until then SIGABRT ends the process."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def run(self) -> None:
        """Serve until the loop ends."""
        lane, certificates = self.wsgi.lane, self.wsgi.certificates
        lane.under_way = self.under_way
        _raise_descriptors()
        ports = [Port(listener.sock, lane, certificates) for listener in self.sockets]
        self._loop = Loop(ports)
        signal.signal(signal.SIGTERM, lambda *_: self._drain(self.wsgi.drain))
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self._drain(0))
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        # Exclude the existing objects from garbage collection, because checking them repeatedly
        # costs time.
        gc.freeze()
        log.info(f"Started server process [{self.pid}]")
        self._loop.run(self._beat)
        log.info(f"Finished server process [{self.pid}]")

    def _drain(self, seconds: float) -> None:
        if seconds and not self._loop.draining:
            self.wsgi.health.draining = True
            log.info("draining", seconds=seconds)
        self._loop.drain(seconds)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten < 1:
            return
        self._beaten = now
        self.notify()
        table = self._loop.table
        if _trim and table.peak > _LARGE and not table.held:
            _trim(0)
            table.peak = 0
        if os.getppid() != self.ppid:
            # Without its parent, nothing would ever end this process.
            self._loop.drain(0)


def _raise_descriptors() -> None:
    """Raise the limit of open files to its maximum, because each connection needs a descriptor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
