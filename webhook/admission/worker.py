"""The gunicorn worker: uvicorn's, with the options that an admission webhook needs."""

import signal
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn_worker import UvicornWorker

from webhook.admission import tls
from webhook.admission.protocol import Protocol


def _context(config: Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    return tls.context(str(config.ssl_certfile), str(config.ssl_keyfile))


class Worker(UvicornWorker):  # type: ignore[misc] # uvicorn-worker has no types
    """One process, one thread; no header that tells what serves, no line per request."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "ssl_context_factory": _context,
    }

    #: gunicorn's listeners, and plain sockets once the process runs.
    sockets: list[Any]

    def init_process(self) -> None:
        """Start, on plain sockets: gunicorn's wrappers would be closed a second time at the end."""
        self.sockets = [listener.sock for listener in self.sockets]
        super().init_process()

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        """End as on SIGTERM, the one order that uvicorn takes; gunicorn gives SIGQUIT on Ctrl-C."""
        signal.raise_signal(signal.SIGTERM)
