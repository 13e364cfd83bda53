"""What a port of the admission server answers: reviews inline, all other paths by Flask.

Flask alone costs several times as much as a review (`make bench`).
"""

import ssl
import time
import urllib.parse
from functools import lru_cache
from typing import NamedTuple

import structlog
from flask import Flask

from webhook.admission.app import is_json
from webhook.admission.clients import Clients
from webhook.admission.review import AnyRoute, Reviewer
from webhook.admission.under_way import UnderWay
from webhook.serving import deadline, http
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response

#: No URL of the API server's is longer.
_LONGEST_URL = 100
_NOT_A_REQUEST = http.bad("Invalid HTTP request received.")

log = structlog.get_logger(__name__)


class Target(NamedTuple):
    """Where a request goes: a review, and the seconds that its sender waits, or a page."""

    route: AnyRoute | None
    seconds: float
    path: bytes
    query: bytes


class Lane:
    """The application of the admission port."""

    def __init__(self, reviewer: Reviewer, flask: Flask, *, clients: Clients | None = None) -> None:
        """`flask` serves all but admission; `clients` says who may ask, None that all may."""
        self._reviewer, self._flask, self._clients = reviewer, flask, clients
        #: The worker's own, once there is one.
        self.under_way = UnderWay()
        self._cached = lru_cache(maxsize=256)(self._find)

    def trusts(self, peer: ssl.SSLSocket) -> float:
        """Return until when a client may ask for reviews, in seconds since 1970."""
        return self._clients.trusts(peer) if self._clients else float("inf")

    def refusal(self, request: Request, connection: Connection) -> Response | None:
        """Look at a request's head; return the answer if its body can't change it."""
        url = request.url
        target = request.target = self._cached(url) if len(url) <= _LONGEST_URL else self._find(url)
        if target is None:
            return _NOT_A_REQUEST
        if target.route is None:
            request.keeps_body = False
            return None
        if self._clients and time.time() >= connection.trusted_until:
            return http.refusal(403)
        if request.method != b"POST":
            return http.refusal(405, b"allow: POST\r\n")
        headers = request.headers
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            # A body would be taken for the next request.
            return _NOT_A_REQUEST
        kind = headers.get(b"content-type", b"")
        if kind != b"application/json" and not is_json(kind.decode("latin-1")):
            return http.refusal(415)
        return None

    def answer(self, request: Request, connection: Connection) -> Response:
        """Return the answer to a whole request."""
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
        """Return the answer to a review that would be answered too late."""
        self._reviewer.metrics.shed()
        log.warning("overloaded: reviews are turned away", limit=limit)
        return http.refusal(503, b"retry-after: 1\r\n")

    def _find(self, url: bytes) -> Target | None:
        found = http.split(url)
        if found is None:
            return None
        path, query = found
        # Slashes at the start count as one, as Werkzeug counts them.
        plain = "/" + urllib.parse.unquote(path.decode("latin-1")).lstrip("/")
        return Target(self._reviewer.routes.get(plain), deadline.seconds(query), path, query)
