"""Serves WSGI applications in this process, on plain ports and on ports with TLS, until a signal.

The dashboard, the auditor's metrics and the auditor's webhook have the admission server's loop, and
threads: what they answer may wait for the API server.
"""

import gc
import signal
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
from typing import NamedTuple
from wsgiref.types import WSGIApplication

import structlog

from webhook.serving import http, loop
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response
from webhook.serving.rotation import Rotation

log = structlog.get_logger(__name__)

#: Requests that are answered at once; more of them wait.
_AT_ONCE = 8
_ERROR = Response(500, http.TEXT, b"500 Internal Server Error\n")


class Port(NamedTuple):
    """A socket that listens already, and what is served on it."""

    listener: socket
    app: WSGIApplication
    #: The certificate to serve it with; None: plain HTTP.
    rotation: Rotation | None = None


def serve(ports: Sequence[Port]) -> None:
    """Serve until SIGTERM or Ctrl-C; the sockets are closed then."""
    served = [loop.Port(port.listener, _Pages(port), port.rotation) for port in ports]
    running = loop.Loop(served, threads=_AT_ONCE)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.drain(0))
    # What is there now stays: to look through it again and again costs time.
    gc.freeze()
    running.run(lambda: None)


class _Pages:
    """One WSGI application, as a port's."""

    def __init__(self, port: Port) -> None:
        self._app = port.app
        self._scheme = "https" if port.rotation else "http"

    def trusts(self, _: ssl.SSLSocket) -> float:
        """All clients may ask; the application decides whom it answers."""
        return float("inf")

    def refusal(self, request: Request, _: Connection) -> Response | None:
        """Refuse what has no path."""
        request.target = http.split(request.url)
        return None if request.target else http.bad("Invalid HTTP request received.")

    def answer(self, request: Request, connection: Connection) -> Callable[[], Response]:
        """Leave the answer to a thread."""
        path, query = request.target
        given = http.environ(request, path, query, connection.client, scheme=self._scheme)
        return partial(self._call, given)

    def shed(self, _: float) -> Response:
        """Return the answer to a request that comes too late."""
        return http.refusal(503, b"retry-after: 1\r\n")

    def _call(self, given: dict[str, object]) -> Response:
        try:
            return http.call(self._app, given)
        except Exception:
            log.exception("a page failed", path=given["PATH_INFO"])
            return _ERROR
