"""The admission lane: an ASGI application that answers reviews and passes the rest to Flask.

Flask alone costs several times as much as a review (`make bench`), so the two admission
paths do not go through it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import structlog
from a2wsgi import WSGIMiddleware
from flask import Flask

from webhook.admission import deadline
from webhook.admission.app import REFUSALS, is_json
from webhook.admission.clients import Clients
from webhook.admission.review import BODY_LIMIT, AnyRoute, Reviewer
from webhook.admission.under_way import UnderWay

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Bytes of bodies that are held at once, of all clients together: beyond it only small ones
#: are taken in, or a few clients that never end their requests would fill the memory.
_HELD_LIMIT = 64 * 1024 * 1024
SMALL = 256 * 1024
#: Seconds for which the rest of a body that is too large is read.
_LINGER = 2.0
#: No URL of the API server's is longer.
_LONGEST_URL = 100

log = structlog.get_logger(__name__)


class Target(NamedTuple):
    """Where a review is sent, and the seconds that its sender waits."""

    route: AnyRoute
    seconds: float


class Lane:
    """The ASGI application. Reviews are answered inline: they wait for nothing."""

    def __init__(self, reviewer: Reviewer, flask: Flask, *, clients: Clients | None = None) -> None:
        """`flask` serves all but admission; `clients` says who may ask, None that all may."""
        self._reviewer = reviewer
        self.clients = clients
        #: Runs once the event loop does.
        self.lag = deadline.Lag()
        #: The worker's own, once there is one.
        self.under_way = UnderWay()
        self.target = lru_cache(maxsize=256)(self._find)
        self._held = 0
        # a2wsgi types ASGI more narrowly than the specification does.
        self._flask = cast(
            "Callable[[Scope, Receive, Send], Awaitable[None]]",
            WSGIMiddleware(cast("Any", flask.wsgi_app)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        route = self._reviewer.routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._flask(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not self.welcomes(scope.get("state", {})):
            await _refuse(send, 403)
        elif scope["method"] != "POST":
            await _refuse(send, 405, (b"allow", b"POST"))
        elif not is_json(headers.get(b"content-type", b"").decode("latin-1")):
            await _refuse(send, 415)
        elif int(headers.get(b"content-length", b"0")) > BODY_LIMIT:
            await _too_large(receive, send, more=True)
        else:
            target = Target(route, deadline.seconds(scope["query_string"]))
            since = scope.get("state", {}).get("since", self.lag.behind)
            await self._answer(target, since, receive, send)

    def welcomes(self, state: Mapping[str, Any]) -> bool:
        """Whether a client may ask for reviews, as the protocol has noted it of its connection."""
        return self.clients is None or state.get("client", False)

    def answer(self, target: Target, since: float, body: bytes) -> tuple[int, bytes, bytes]:
        """Status, content type and body of the answer to a review.

        `since` is what `lag.behind` was when it began to come.
        """
        if self.lag.too_late(since, target.seconds):
            return self.shed(target.seconds)
        self.under_way.begin(body)
        answer = self._reviewer.answer(target.route, body)
        self.under_way.end()
        return 200, b"application/json", answer

    def shed(self, limit: float) -> tuple[int, bytes, bytes]:
        """Status, content type and body for a review that would be answered too late."""
        self._reviewer.metrics.shed.inc()
        log.warning("overloaded: reviews are turned away", limit=limit)
        return 503, b"text/plain", REFUSALS[503].encode()

    def _find(self, url: bytes) -> Target | None:
        if len(url) > _LONGEST_URL:
            return None
        path, _, query = url.partition(b"?")
        route = self._reviewer.routes.get(path.decode("latin-1"))
        return None if route is None else Target(route, deadline.seconds(query))

    async def _answer(self, target: Target, since: float, receive: Receive, send: Send) -> None:
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                chunk, more = message.get("body", b""), message.get("more_body", False)
                chunks.append(chunk)
                size += len(chunk)
                self._held += len(chunk)
                if size > BODY_LIMIT or (size > SMALL and self._held > _HELD_LIMIT):
                    chunks.clear()
                    await _too_large(receive, send, more=more)
                    return
        finally:
            self._held -= size
        status, content_type, answer = self.answer(target, since, b"".join(chunks))
        again = ((b"retry-after", b"1"),) if status == 503 else ()
        await _reply(send, status, answer, content_type, *again)


async def _too_large(receive: Receive, send: Send, *, more: bool) -> None:
    """Refuse a body; where more of it is under way, nothing can follow on the connection.

    The rest is thrown away for a while: closing at once would reset the connection, and a client
    that still sends would never see the answer.
    """
    text = REFUSALS[413].encode()
    await send(_start(413, text, b"text/plain", (b"connection", b"close")))
    await send({"type": "http.response.body", "body": text, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while more:
                more = (await receive()).get("more_body", False)
    await send({"type": "http.response.body"})


async def _refuse(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    await _reply(send, status, REFUSALS[status].encode(), b"text/plain", *headers)


async def _reply(
    send: Send, status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]
) -> None:
    await send(_start(status, body, content_type, *headers))
    await send({"type": "http.response.body", "body": body})


def _start(
    status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]
) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ],
    }
