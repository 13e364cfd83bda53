"""The gunicorn worker: one process, one thread, one loop."""

import gc
import os
import resource
import signal
import time
from typing import Any, NamedTuple

import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker

from webhook.admission.lane import Lane
from webhook.admission.under_way import UnderWay
from webhook.serving.health import Health
from webhook.serving.loop import Loop, Port
from webhook.serving.rotation import Rotation

log = structlog.get_logger(__name__)


class Service(NamedTuple):
    """What a worker serves: gunicorn's application."""

    lane: Lane
    certificates: Rotation
    health: Health
    #: Seconds for which it goes on after SIGTERM.
    drain: float


def report(_: Arbiter, worker: "Worker") -> None:
    """In the master, when a worker has ended: log the review that it was in, if any."""
    worker.under_way.report(worker.pid)


class Worker(BaseWorker):  # type: ignore[misc] # gunicorn has no types
    """Serves from a fork of gunicorn's master until a signal, or until the master is gone."""

    wsgi: Service
    _loop: Loop
    _beaten = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make, in the master and before the fork, what the two share."""
        super().__init__(*arguments, **options)
        self.under_way = UnderWay()

    def init_signals(self) -> None:
        """Wait for the service before signals are handled; SIGABRT ends the process at once."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def run(self) -> None:
        """Serve."""
        lane, certificates = self.wsgi.lane, self.wsgi.certificates
        lane.under_way = self.under_way
        _raise_descriptors()
        ports = [Port(listener.sock, lane, certificates) for listener in self.sockets]
        self._loop = Loop(ports)
        signal.signal(signal.SIGTERM, lambda *_: self._drain(self.wsgi.drain))
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self._drain(0))
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        # What is there now stays: to look through it again and again costs time.
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
        if os.getppid() != self.ppid:
            # Without its parent nothing would ever end it.
            self._loop.drain(0)


def _raise_descriptors() -> None:
    """Allow as many descriptors as may be: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
