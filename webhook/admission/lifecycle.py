"""uvicorn's server with the end that a webhook needs: it drains before it closes.

When a pod ends, API servers still dial it until its endpoint has gone everywhere, and still use the
connections that they have. So for a while after SIGTERM it takes in both, says on each that it is
the last answer, and is not ready; then it closes.
"""

import asyncio
import functools
import gc
import os
import signal
import socket
import time
from types import FrameType
from typing import Any, cast

import structlog
from uvicorn.config import Config
from uvicorn.server import Server

from webhook.admission.acceptor import Acceptor
from webhook.admission.express import Express
from webhook.admission.health import Health
from webhook.admission.lane import Lane
from webhook.admission.rotation import Rotation

log = structlog.get_logger(__name__)


class Draining(Server):
    """One worker's server, from its first connection to its last."""

    def __init__(
        self, config: Config, lane: Lane, rotation: Rotation, health: Health, *, drain: float
    ) -> None:
        """`drain` is how many seconds it goes on after SIGTERM."""
        super().__init__(config)
        self._lane = lane
        self._rotation = rotation
        self._health = health
        self._drain = drain
        self._end = float("inf")
        self._parent = os.getppid()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and start what goes on beside."""
        loop = asyncio.get_running_loop()
        protocol = functools.partial(
            Express,
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        loop.set_exception_handler(_handle)
        self.servers = cast(
            "list[asyncio.base_events.Server]",
            [Acceptor(listener, protocol, self._rotation.context) for listener in sockets or ()],
        )
        self._watch = loop.create_task(self._rotation.watch())
        self._lane.lag.start(loop)
        # What is there now stays: to look through it again and again costs time.
        gc.freeze()
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; uvicorn asks ten times a second."""
        # Without its parent nobody would ever end it.
        if time.monotonic() >= self._end or os.getppid() != self._parent:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything; after a drain whoever is just being connected is served first."""
        self._watch.cancel()
        if self._health.draining:
            for server in self.servers:
                server.close()
            for server in self.servers:
                await server.wait_closed()
        await super().shutdown(sockets)

    def end(self) -> None:
        """End at once."""
        self._drain = 0
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first SIGTERM; end at once on the second."""
        super().handle_exit(sig, frame)
        if self._health.draining or not self._drain:
            return
        self.should_exit = False
        self._health.draining = True
        self._end = time.monotonic() + self._drain
        # uvicorn makes the headers of responses from these, once a second.
        last = (b"connection", b"close")
        self.config.encoded_headers.append(last)
        self.server_state.default_headers = [*self.server_state.default_headers, last]
        log.info("draining", seconds=self._drain)


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a callback of the loop raised. Without memory the worker ends, and another one starts.

    The loop may be left half done, and would look alive to its parent.
    """
    if isinstance(context.get("exception"), MemoryError):
        os._exit(1)
    loop.default_exception_handler(context)
