"""The loop: accept, give each connection its turn, sweep the deadlines, drain.

Clients that have not asked anything yet have a selector of their own, which gets its turn also
amid reviews. So a flood of dials does not hold up reviews, and reviews do not hold up a probe.
"""

import contextlib
import email.utils
import errno
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import structlog

from webhook.serving.connection import READ, Application, Connection
from webhook.serving.deadline import Lag
from webhook.serving.http import Response
from webhook.serving.rotation import Rotation
from webhook.serving.table import Source, Table

log = structlog.get_logger(__name__)

#: Seconds between two sweeps of the deadlines, and of a longest wait for events.
_SWEEP = 0.1
#: Seconds of work after which newcomers and reviews take turns.
_SLICE = 0.01
#: Seconds until it accepts again if there are no descriptors or no memory left.
_PAUSE = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Port(NamedTuple):
    """A socket that listens, and what is served on it."""

    listener: socket.socket
    app: Application
    #: The certificate to serve it with; None: plain HTTP.
    certificates: Rotation | None = None


class Loop:
    """Serves ports from `run` until it has drained."""

    def __init__(self, ports: Sequence[Port], *, threads: int = 1) -> None:
        """`threads` make the answers that applications leave to a thread."""
        self.lag = Lag()
        self.table = Table()
        self.now = time.monotonic()
        self.date = b""
        #: It answers what still comes, each time as the last answer; it waits for the last ones.
        self.draining = self.ending = False
        self._ports = ports
        self._selector, self._newcomers = selectors.DefaultSelector(), selectors.DefaultSelector()
        self._soon: deque[Connection] = deque()
        self._end_at = float("inf")
        self._accept_at: float | None = 0.0
        self._swept = 0.0
        self._pool = ThreadPoolExecutor(threads)
        self._made: deque[tuple[Connection, Response]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._collect)
        self._selector.register(self._newcomers, selectors.EVENT_READ, self._greet)

    # What signal handlers and the worker call

    def drain(self, seconds: float) -> None:
        """End after so many seconds; at once if it is draining already."""
        self._end_at = 0.0 if self.draining or not seconds else time.monotonic() + seconds
        self.draining = True

    def run(self, beat: Callable[[], object]) -> None:
        """Serve until the end; `beat` is called at each sweep, and raises nothing."""
        try:
            while not self.ending or self.table.members:
                try:
                    self._turn()
                    if self.now - self._swept >= _SWEEP:
                        self._sweep()
                        beat()
                except Exception:
                    # A fault of ours ends no worker, and does not fill the log.
                    log.exception("the loop failed")
                    time.sleep(_PAUSE)
        finally:
            self._close()

    # What connections call

    def want(self, connection: Connection, interest: int) -> None:
        """Wait until a connection's socket is ready for something; 0 for nothing."""
        selector = self._selector if connection.known else self._newcomers
        was = connection.selector
        if was is selector and interest:
            if interest != connection.interest:
                selector.modify(connection.fd, interest, connection)
        else:
            if was:
                was.unregister(connection.fd)
            if interest:
                selector.register(connection.fd, interest, connection)
        connection.selector, connection.interest = selector if interest else None, interest

    def soon(self, connection: Connection) -> None:
        """Give a connection a turn though its socket may not be ready."""
        self._soon.append(connection)

    def forget(self, connection: Connection) -> None:
        """Take a connection out of everything, before its socket is closed."""
        self.want(connection, 0)
        self.table.leave(connection)

    def work(self, connection: Connection, make: Callable[[], Response]) -> None:
        """Have a response made by a thread, which must not raise."""
        self._pool.submit(make).add_done_callback(partial(self._done, connection))

    def _done(self, connection: Connection, made: Future[Response]) -> None:
        """In the thread: hand over what it has made."""
        self._made.append((connection, made.result()))
        with contextlib.suppress(OSError):
            self._wake.send(b"x", socket.MSG_DONTWAIT)

    def _collect(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._made:
            connection, response = self._made.popleft()
            self._attend(connection, partial(connection.deliver, response))

    # Turns

    def _turn(self) -> None:
        wait = 0.0 if self._soon else max(0.0, self._swept + _SWEEP - self.now)
        began = time.monotonic()
        events = self._selector.select(wait)
        self.now = began = self.lag.turn(began, wait)
        for key, _ in events:
            if isinstance(key.data, Connection):
                self._attend(key.data)
            else:
                key.data()
            if len(events) > 1 and time.monotonic() - began > _SLICE:
                self._greet()
                began = self.now = time.monotonic()
        for _ in range(len(self._soon)):
            self._attend(self._soon.popleft())

    def _greet(self) -> None:
        """Attend to newcomers for a slice of time.

        First to those whose handshake goes on, for only real clients come so far. Then to one of
        each address, and to the next. Of one address the latest is first: if there are more than
        can be served, those that are served have not given up yet.
        """
        waiting: dict[Source, int] = {}
        queue: list[tuple[bool, int, Connection]] = []
        for key, _ in reversed(self._newcomers.select(0)):
            if isinstance(key.data, Connection):
                connection = key.data
                # Also one that does not get its turn now is not silent.
                self.table.hear(connection)
                place = waiting.get(connection.source, 0)
                waiting[connection.source] = place + 1
                is_first = not isinstance(connection.socket, ssl.SSLSocket)
                queue.append((is_first, place, connection))
            else:
                self._accept(key.data)
        end = time.monotonic() + _SLICE
        queue.sort(key=itemgetter(0, 1))
        for _, _, connection in queue:
            self._attend(connection)
            self.now = time.monotonic()
            if self.now > end:
                return

    def _attend(self, connection: Connection, step: Callable[[], None] | None = None) -> None:
        """Let a connection go on; whatever goes wrong in it ends it alone."""
        if connection.closed:
            return
        try:
            (step or connection.proceed)()
        except MemoryError:
            # What is left half done would look alive to gunicorn's master, which starts another.
            os._exit(1)
        except Exception:
            log.exception("a connection failed")
            connection.abort()

    def _accept(self, port: Port) -> None:
        end = time.monotonic() + _SLICE / 2
        while time.monotonic() < end:
            try:
                plain, address = port.listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                return
            plain.setblocking(False)
            with contextlib.suppress(OSError):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, plain, port, address[0])
            connection.reserved = self.table.enter(connection, address[0])
            self.want(connection, READ)

    def _exhausted(self, error: OSError) -> None:
        """Make room if there are no descriptors or no memory left; go on after a pause."""
        log.warning("can't accept a connection", why=error.strerror)
        self.table.evict(self.now)
        self._listen(listen=False)
        self._accept_at = self.now + _PAUSE

    def _listen(self, *, listen: bool) -> None:
        for port in self._ports:
            if listen:
                port.listener.setblocking(False)
                self._newcomers.register(port.listener, selectors.EVENT_READ, port)
            elif self._accept_at is None:
                self._newcomers.unregister(port.listener)

    # Time

    def _sweep(self) -> None:
        """Do what is due: deadlines, certificates, accepting again, the end."""
        self._swept = self.now
        self.date = f"date: {email.utils.formatdate(usegmt=True)}\r\n".encode()
        if self._accept_at is not None and self.now >= self._accept_at and not self.ending:
            self._listen(listen=True)
            self._accept_at = None
        for port in self._ports:
            if port.certificates:
                port.certificates.look(self.now)
        if self.now >= self._end_at and not self.ending:
            self._finish()
        for connection in tuple(self.table.members):
            if self.now >= connection.deadline:
                self._attend(connection, connection.expire)

    def _finish(self) -> None:
        """Accept the connections that are already queued, then stop; each may ask once more."""
        log.info("Shutting down", connections=len(self.table.members))
        self.draining = True
        for port in self._ports:
            self._accept(port)
        self.ending = True
        self._listen(listen=False)
        for port in self._ports:
            port.listener.close()
        for connection in tuple(self.table.members):
            self._attend(connection, connection.drain)

    def _close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for connection in tuple(self.table.members):
            connection.abort()
        for closing in (self._selector, self._newcomers, self._wake, self._woken):
            closing.close()
