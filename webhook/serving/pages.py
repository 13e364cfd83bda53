"""Serves WSGI applications in this process until a signal, on ports with or without TLS.

The dashboard, the auditor's metrics and the auditor's webhook share the loop of the admission
server. They answer in threads, because a response may wait for the API server.
"""

import gc
import signal
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
from typing import NamedTuple
from wsgiref.types import WSGIApplication

from webhook.log import Log
from webhook.serving import http, loop
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response
from webhook.serving.rotation import Rotation

log = Log(__name__)

#: The number of requests that are answered at the same time. Further requests wait.
_AT_ONCE = 8
_ERROR = Response(500, http.TEXT, b"500 Internal Server Error\n")


class Port(NamedTuple):
    """A listening socket and the application that it serves."""

    listener: socket
    app: WSGIApplication
    #: The serving certificate. None means plain HTTP.
    rotation: Rotation | None = None


def serve(ports: Sequence[Port]) -> None:
    """Serve until SIGTERM or Ctrl-C, then close the sockets."""
    served = [loop.Port(port.listener, _Pages(port), port.rotation) for port in ports]
    running = loop.Loop(served, threads=_AT_ONCE)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.drain(0))
    # Exclude the existing objects from garbage collection, because checking them repeatedly costs
    # time.
    gc.freeze()
    running.run(lambda: None)


class _Pages:
    """Adapts one WSGI application to a port of the loop."""

    def __init__(self, port: Port) -> None:
        self._app = port.app
        self._scheme = "https" if port.rotation else "http"

    def trusts(self, _: ssl.SSLSocket) -> float:
        """Return infinity: each client may send requests. The application checks them."""
        return float("inf")

    def refusal(self, request: Request, _: Connection) -> Response | None:
        """Return an error response if the URL has no path, else None."""
        request.target = http.split(request.url)
        return None if request.target else http.bad("Invalid HTTP request received.")

    def answer(self, request: Request, connection: Connection) -> Callable[[], Response]:
        """Return a function that makes the response in a thread."""
        path, query = request.target
        given = http.environ(request, path, query, connection.client, scheme=self._scheme)
        return partial(self._call, given)

    def shed(self, _: float) -> Response:
        """Return the response to a request that can't be answered in time."""
        return http.refusal(503, b"retry-after: 1\r\n")

    def _call(self, given: dict[str, object]) -> Response:
        try:
            return http.call(self._app, given)
        except Exception:
            log.exception("a page failed", path=given["PATH_INFO"])
            return _ERROR
