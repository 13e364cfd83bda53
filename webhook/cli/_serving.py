"""Serves WSGI applications in this process, over HTTP and HTTPS, until a signal.

The dashboard and the auditor use it. The admission server has its own server, because it must
answer many clients quickly.
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

#: Requests that a port answers at the same time; further requests wait.
_WORKERS = 4
#: Seconds that an idle connection stays open: longer than the 90 of an API server.
_IDLE = 120
#: Seconds that running requests get to finish at shutdown.
_GRACE = 5
#: Seconds between updates of the Date header.
_TICK = 1.0


class Port(NamedTuple):
    """A listening socket, and the application to serve on it."""

    listener: socket.socket
    app: WSGIApplication
    #: The certificate for HTTPS; None for HTTP.
    rotation: Rotation | None = None


def serve(ports: Sequence[Port]) -> None:
    """Serve until SIGTERM or Ctrl-C, then close the sockets."""
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
    # Objects that exist now stay, so the garbage collector need not scan them again.
    gc.freeze()
    pairs = zip(servers, ports, strict=True)
    await asyncio.gather(*(server.serve([port.listener]) for server, port in pairs))


class _Server(Server):
    """The server of one port."""

    def __init__(self, port: Port) -> None:
        # a2wsgi types ASGI more narrowly than the specification does.
        app = cast("Any", WSGIMiddleware(cast("Any", port.app), workers=_WORKERS))
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
        """Stop after the running requests; the second call stops at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no signal handlers, because `serve` handles signals for all ports."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. With TLS, new connections use the current certificate."""
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
        """Wait for the end and update the date. uvicorn's loop would wake ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything."""
        if self._watch:
            self._watch.cancel()
        await super().shutdown(sockets)
