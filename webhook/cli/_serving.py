"""Serves WSGI applications in this process, on plain ports and on ports with TLS, until a signal.

It is what the commands share that serve people, Prometheus and the auditor's webhook; the admission
server, whose clients are many and in a hurry, has a server of its own.
"""

import asyncio
import contextlib
import functools
import gc
import signal
import socket
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, cast
from wsgiref.types import WSGIApplication

import uvloop
from a2wsgi import WSGIMiddleware
from uvicorn.config import Config
from uvicorn.server import Server

from webhook.admission.acceptor import Acceptor
from webhook.admission.protocol import Protocol
from webhook.admission.rotation import Rotation

#: Requests of a port that are answered at once; more of them wait.
_AT_ONCE = 4
#: Seconds that a client may keep a connection without a word: more than an API server's 90.
_IDLE = 120
#: Seconds that answers under way get at the end.
_GRACE = 5
#: Seconds between two looks at the time, which is in every answer.
_TICK = 1.0


class Port(NamedTuple):
    """A socket that listens already, and what is served on it."""

    listener: socket.socket
    app: WSGIApplication
    #: The certificate to serve it with; None: plain HTTP.
    rotation: Rotation | None = None


def serve(ports: Sequence[Port]) -> None:
    """Serve until SIGTERM or Ctrl-C; the sockets are closed then."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(ports))


async def _serve(ports: Sequence[Port]) -> None:
    servers = [_Server(port) for port in ports]

    def end() -> None:
        for server in servers:
            server.end()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    # What is there now stays: to look through it again and again costs time.
    gc.freeze()
    pairs = zip(servers, ports, strict=True)
    await asyncio.gather(*(server.serve([port.listener]) for server, port in pairs))


class _Server(Server):
    """One port."""

    def __init__(self, port: Port) -> None:
        # a2wsgi types ASGI more narrowly than the specification does.
        app = cast("Any", WSGIMiddleware(cast("Any", port.app), workers=_AT_ONCE))
        super().__init__(
            Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._rotation = port.rotation
        self._watch: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End as soon as answers under way are given; at once when asked again."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to who serves several ports."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; with TLS as the admission server does, by the certificate of the moment."""
        if self._rotation is None:
            await super().startup(sockets)
            return
        protocol = functools.partial(
            Protocol, config=self.config, server_state=self.server_state, app_state={}
        )
        self.servers = cast(
            "list[asyncio.base_events.Server]",
            [Acceptor(listener, protocol, self._rotation.context) for listener in sockets or ()],
        )
        self._watch = asyncio.get_running_loop().create_task(self._rotation.watch())
        self.started = True

    async def main_loop(self) -> None:
        """Wait for the end, and keep the date; ten looks a second would be most of the work."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything."""
        if self._watch:
            self._watch.cancel()
        await super().shutdown(sockets)
