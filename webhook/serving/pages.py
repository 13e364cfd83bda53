"""Serves WSGI applications in this process until a signal, on ports with or without TLS.

The dashboard, the auditor's metrics and the auditor's webhook share the loop of the admission
server. They answer in threads, because a response may wait for the API server.
"""

import gc
import signal
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from socket import socket
from typing import NamedTuple, Protocol
from wsgiref.types import WSGIApplication

from webhook.log import Log
from webhook.serving import http, loop
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response
from webhook.serving.rotation import Rotation

log = Log(__name__)

#: The number of requests that are answered at the same time. Further requests wait.
_AT_ONCE = 8
#: The key in the WSGI environment: whether the client presented an allowed certificate.
TRUSTED = "mendix_mesh.trusted"
_ERROR = Response(500, http.TEXT, b"500 Internal Server Error\n")


class Clients(Protocol):
    """Decides which client certificates are allowed."""

    def trusts(self, peer: ssl.SSLObject, /) -> float:
        """Return until when a client is trusted, in seconds since 1970; 0 if it is not."""


class Port(NamedTuple):
    """A listening socket and the application that it serves."""

    listener: socket
    app: WSGIApplication
    #: The serving certificate. None means plain HTTP.
    rotation: Rotation | None = None
    #: Which certificates of clients are allowed. None means that nobody is trusted.
    clients: Clients | None = None
    #: Paths that the loop itself answers, because they never wait. So a probe is answered also if
    #: all threads wait for the API server.
    quick: Collection[bytes] = ()


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
        self._app, self._clients, self._quick = port.app, port.clients, frozenset(port.quick)
        self._scheme = "https" if port.rotation else "http"

    def trusts(self, peer: ssl.SSLObject) -> float:
        """Return until when a client is trusted. Others may send requests, too."""
        return self._clients.trusts(peer) if self._clients else 0.0

    def rejection(self, request: Request, _: Connection) -> Response | None:
        """Return an error response if the URL has no path, else None."""
        request.target = http.split(request.url)
        return None if request.target else http.bad("Invalid HTTP request received.")

    def answer(self, request: Request, connection: Connection) -> Response | Callable[[], Response]:
        """Return the response, or a function that makes it in a thread."""
        path, query = request.target
        given = http.environ(request, path, query, connection.client, scheme=self._scheme)
        given[TRUSTED] = time.time() < connection.trusted_until
        return self._call(given) if path in self._quick else partial(self._call, given)

    def shed(self, _: float) -> Response:
        """Return the response to a request that can't be answered in time."""
        return http.rejection(503, b"retry-after: 1\r\n")

    def _call(self, given: dict[str, object]) -> Response:
        try:
            return http.call(self._app, given)
        except Exception:
            log.exception("a page failed", path=given["PATH_INFO"])
            return _ERROR
