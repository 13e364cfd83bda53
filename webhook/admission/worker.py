"""The gunicorn worker: uvicorn's, with the server and protocol that an admission webhook needs."""

import asyncio
import signal
import sys
from typing import Any, ClassVar, NamedTuple

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from webhook.admission.express import Express
from webhook.admission.health import Health
from webhook.admission.lane import Lane
from webhook.admission.lifecycle import Draining
from webhook.admission.rotation import Rotation
from webhook.admission.under_way import UnderWay


class Service(NamedTuple):
    """What a worker serves: gunicorn's application."""

    lane: Lane
    rotation: Rotation
    health: Health
    drain: float


def report(_: Arbiter, worker: "Worker") -> None:
    """In the master, when a worker has ended: log the review that it was in, if any."""
    worker.under_way.report(worker.pid)


class Worker(UvicornWorker):  # type: ignore[misc] # uvicorn-worker has no types
    """One process, one thread; no header that tells what serves, no line per request."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Express,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
    }

    #: gunicorn's listeners, and plain sockets once the process runs.
    sockets: list[Any]
    #: gunicorn's name for the application.
    wsgi: Service

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make, in the master and before the fork, what the two share."""
        super().__init__(*arguments, **options)
        self.under_way = UnderWay()

    def init_process(self) -> None:
        """Start, on plain sockets: gunicorn's wrappers would be closed a second time at the end."""
        self.sockets = [listener.sock for listener in self.sockets]
        super().init_process()

    async def _serve(self) -> None:
        lane, rotation, health, drain = self.wsgi
        lane.under_way = self.under_way
        self.config.app = lane
        self.config.ssl_context_factory = lambda *_: rotation.context
        server = Draining(self.config, lane, rotation, health, drain=drain)
        # gunicorn's order to end at once, as on Ctrl-C.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.end)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
