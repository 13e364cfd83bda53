"""The event loop. It accepts connections, gives each a turn, checks deadlines, and drains.

New clients, which have not sent a request yet, have their own epoll object. The loop serves it
between reviews too. So a flood of new connections does not delay reviews, and reviews do not delay
a probe.
"""

import contextlib
import email.utils
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from webhook.log import Log
from webhook.serving.connection import READ, Application, Connection
from webhook.serving.deadline import Lag
from webhook.serving.http import Response
from webhook.serving.rotation import Rotation
from webhook.serving.table import Table, by_address

log = Log(__name__)

#: Seconds between two checks of the deadlines. This is also the longest wait for events.
_CHECK_EVERY = 0.1
#: Seconds of work after which the loop looks again for clients that wait. New clients and known
#: ones alternate.
_SLICE = 0.01
#: Seconds until the loop accepts connections again after it ran out of descriptors or memory.
_PAUSE = 0.1
#: The maximum seconds for accepting what is queued when the server shuts down. The kernel queues at
#: most 2048 connections, and each takes about 50 µs.
_LAST = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Port(NamedTuple):
    """A listening socket and the application that it serves."""

    listener: socket.socket
    app: Application
    #: The serving certificate. None means plain HTTP.
    certificates: Rotation | None = None


class Loop:
    """Serves ports from the call of `run` until the loop has drained."""

    def __init__(self, ports: Sequence[Port], *, threads: int = 1) -> None:
        """Create the loop. `threads` is the number of threads for slow responses."""
        self.lag = Lag()
        self.table = Table()
        self.now = time.monotonic()
        self.date = b""
        #: `draining`: each further response is the last one of its connection. `ending`: the loop
        #: waits for the last connections.
        self.draining = self.ending = False
        self._ports = ports
        self._known, self._newcomers = select.epoll(), select.epoll()
        #: What to call or serve when a descriptor is ready.
        self._ready: dict[int, Connection | Port | Callable[[], None]] = {}
        #: The known connections that wait for a turn, and since when, in the time of the lag.
        self._due: dict[Connection, float] = {}
        self._end_at = float("inf")
        self._accept_at: float | None = 0.0
        self._checked = 0.0
        self._pool = ThreadPoolExecutor(threads)
        self._made: deque[tuple[Connection, Response]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        for source, step in ((self._woken, self._collect), (self._newcomers, self._greet)):
            self._ready[source.fileno()] = step
            self._known.register(source.fileno(), READ)

    # Called by signal handlers and by the worker

    def drain(self, seconds: float) -> None:
        """End after this many seconds. End immediately if the loop is already draining."""
        self._end_at = 0.0 if self.draining or not seconds else time.monotonic() + seconds
        self.draining = True

    def run(self, beat: Callable[[], object]) -> None:
        """Serve until the end. Each check of the deadlines calls `beat`, which must not raise."""
        try:
            while not self.ending or self.table.members:
                try:
                    self._turn()
                    if self.now - self._checked >= _CHECK_EVERY:
                        self._check()
                        beat()
                except Exception:
                    # A bug in this program must neither end the worker nor fill the log.
                    log.exception("the loop failed")
                    time.sleep(_PAUSE)
        finally:
            self._close()

    # Called by connections

    def want(self, connection: Connection, interest: int) -> None:
        """Wait until a connection's socket is ready for these events; 0 means none."""
        poller = self._known if connection.known else self._newcomers
        was = connection.poller
        if was is poller and interest:
            if interest != connection.interest:
                poller.modify(connection.fd, interest)
        else:
            if was:
                # A socket that is closed already has left epoll.
                with contextlib.suppress(OSError):
                    was.unregister(connection.fd)
            if interest:
                poller.register(connection.fd, interest)
        connection.poller, connection.interest = poller if interest else None, interest

    def soon(self, connection: Connection) -> None:
        """Schedule a connection for a turn even if its socket is not ready."""
        self._due[connection] = self.lag.since

    def forget(self, connection: Connection) -> None:
        """Remove a connection from epoll and the table before its socket is closed."""
        self.want(connection, 0)
        del self._ready[connection.fd]
        self._due.pop(connection, None)
        self.table.leave(connection)

    def work(self, connection: Connection, make: Callable[[], Response]) -> None:
        """Run `make` in a thread and deliver its response. `make` must not raise."""
        self._pool.submit(make).add_done_callback(partial(self._done, connection))

    def _done(self, connection: Connection, made: Future[Response]) -> None:
        """Hand over a response. This runs in the thread that made it."""
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
        wait = 0.0 if self._due else max(0.0, self._checked + _CHECK_EVERY - self.now)
        began = time.monotonic()
        # A descriptor may be closed and used again within this turn, a connection may not.
        ready = [self._ready[number] for number, _ in self._known.poll(wait)]
        self.now = self.lag.turn(began, wait)
        if len(ready) == 1 and not self._due and isinstance(ready[0], Connection):
            # This is the usual case.
            self._attend(ready[0])
            return
        for waiter in ready:
            if isinstance(waiter, Connection):
                self._due.setdefault(waiter, self.lag.since)
            elif not isinstance(waiter, Port):
                waiter()
        self._serve()

    def _serve(self) -> None:
        """Serve the connections that are due for one slice of time. The others stay due.

        Addresses take turns. Within an address, the connection comes first that has had no turn for
        the longest time. So many connections, or requests that take long, delay other addresses by
        one slice.
        """
        due = list(self._due)
        if len(due) > 1:
            due = by_address(sorted(due, key=attrgetter("turn")))
        end = time.monotonic() + _SLICE
        for connection in due:
            self.lag.since = self._due.pop(connection, 0.0)
            self._attend(connection)
            if time.monotonic() > end:
                return

    def _greet(self) -> None:
        """Serve new clients for one slice of time.

        Addresses take turns. Within an address, clients in the middle of a handshake come first,
        because only real clients get that far. Then the newest client comes first: if there are too
        many clients to serve, the newest ones have probably not given up yet.
        """
        newcomers = []
        ready = [self._ready[number] for number, _ in self._newcomers.poll(0)]
        for waiter in reversed(ready):
            if isinstance(waiter, Connection):
                # A client that gets no turn now has still sent something.
                self.table.hear(waiter)
                newcomers.append(waiter)
            elif isinstance(waiter, Port):
                self._accept(waiter)
        end = time.monotonic() + _SLICE
        for newcomer in by_address(sorted(newcomers, key=lambda waiter: waiter.tls is None)):
            self._attend(newcomer)
            self.now = time.monotonic()
            if self.now > end:
                return

    def _attend(self, connection: Connection, step: Callable[[], None] | None = None) -> None:
        """Let a connection proceed. An error in it ends only this connection."""
        if connection.closed:
            return
        connection.turn = connection.source.turn = self.now
        try:
            (step or connection.proceed)()
        except MemoryError:
            # A half-stopped worker would look alive to gunicorn's master. If it ends, the master
            # starts another.
            os._exit(1)
        except Exception:
            log.exception("a connection failed")
            connection.abort()

    def _accept(self, port: Port, seconds: float = _SLICE / 2) -> None:
        end = time.monotonic() + seconds
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
            self._ready[connection.fd] = connection
            connection.reserved = self.table.enter(connection, address[0])
            self.want(connection, READ)

    def _exhausted(self, error: OSError) -> None:
        """Make room after descriptors or memory have run out. Accept again after a pause."""
        log.warning("can't accept a connection", why=error.strerror)
        self.table.evict(self.now)
        self._listen(listen=False)
        self._accept_at = self.now + _PAUSE

    def _listen(self, *, listen: bool) -> None:
        for port in self._ports:
            number = port.listener.fileno()
            if listen:
                port.listener.setblocking(False)
                self._ready[number] = port
                self._newcomers.register(number, READ)
            elif self._accept_at is None:
                self._newcomers.unregister(number)

    # Time

    def _check(self) -> None:
        """Do everything that is due: deadlines, certificates, accepting again, and the shutdown."""
        self._checked = self.now
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
        """Accept the connections that are already queued, then stop. Each may send one request."""
        log.info("Shutting down", connections=len(self.table.members))
        self.draining = True
        for port in self._ports:
            self._accept(port, _LAST)
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
        for closing in (self._known, self._newcomers, self._wake, self._woken):
            closing.close()
