"""The application of the admission port. It answers reviews itself and leaves the rest to Flask.

Flask alone takes several times as long as a review (`make bench`).
"""

import ssl
import time
import urllib.parse
from functools import lru_cache
from typing import NamedTuple

from flask import Flask

from webhook.admission.app import is_json
from webhook.admission.clients import Clients
from webhook.admission.review import AnyRoute, Reviewer
from webhook.admission.under_way import UnderWay
from webhook.log import Log
from webhook.serving import deadline, http
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response

#: The API server's URLs are never longer than this.
_LONGEST_URL = 100
_NOT_A_REQUEST = http.bad("Invalid HTTP request received.")

log = Log(__name__)


class Target(NamedTuple):
    """Where a request goes: a review route (None for Flask), and the caller's timeout."""

    route: AnyRoute | None
    seconds: float
    path: bytes
    query: bytes


class Lane:
    """The application of the admission port."""

    def __init__(self, reviewer: Reviewer, flask: Flask, *, clients: Clients | None = None) -> None:
        """`flask` serves everything except admission. `clients` checks callers; None allows all."""
        self._reviewer, self._flask, self._clients = reviewer, flask, clients
        #: The worker replaces this with its own.
        self.under_way = UnderWay()
        self._cached = lru_cache(maxsize=256)(self._find)

    def trusts(self, peer: ssl.SSLObject) -> float:
        """Return until when a client may send reviews, in seconds since 1970."""
        return self._clients.trusts(peer) if self._clients else float("inf")

    def rejection(self, request: Request, connection: Connection) -> Response | None:
        """Check the head of a request. Return a response if the body can't change it, else None."""
        url = request.url
        target = request.target = self._cached(url) if len(url) <= _LONGEST_URL else self._find(url)
        if target is None:
            return _NOT_A_REQUEST
        if target.route is None:
            request.keeps_body = False
            return None
        if self._clients and time.time() >= connection.trusted_until:
            return http.rejection(403)
        if request.method != b"POST":
            return http.rejection(405, b"allow: POST\r\n")
        headers = request.headers
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            # Without a length, the server would treat the body as the next request.
            return _NOT_A_REQUEST
        kind = headers.get(b"content-type", b"")
        if kind != b"application/json" and not is_json(kind.decode("latin-1")):
            return http.rejection(415)
        return None

    def answer(self, request: Request, connection: Connection) -> Response:
        """Return the response to a complete request."""
        route, seconds, path, query = request.target
        if route is None:
            given = http.environ(request, path, query, connection.client, scheme="https")
            return http.call(self._flask.wsgi_app, given)
        if connection.loop.lag.too_late(request.since, seconds):
            return self.shed(seconds)
        body = request.body
        self.under_way.begin(body)
        answer = self._reviewer.answer(route, body)
        self.under_way.end()
        return Response(200, http.JSON, answer)

    def shed(self, limit: float) -> Response:
        """Return the response to a review that can't be answered in time."""
        self._reviewer.metrics.shed()
        log.warning("overloaded: reviews are rejected", limit=limit)
        return http.rejection(503, b"retry-after: 1\r\n")

    def _find(self, url: bytes) -> Target | None:
        found = http.split(url)
        if found is None:
            return None
        path, query = found
        # Several slashes at the start count as one, as in Werkzeug.
        plain = "/" + urllib.parse.unquote(path.decode("latin-1")).lstrip("/")
        return Target(self._reviewer.routes.get(plain), deadline.seconds(query), path, query)
