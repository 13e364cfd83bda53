"""The admission lane: an ASGI application that answers reviews and passes the rest to Flask.

Flask alone costs several times as much as a review (docs/performance.md), so the two admission
paths do not go through it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from flask import Flask

from webhook.admission.app import NOT_JSON, is_json
from webhook.admission.review import BODY_LIMIT, Reviewer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Lane:
    """The ASGI application. Reviews are answered inline: they wait for nothing."""

    def __init__(self, reviewer: Reviewer, flask: Flask) -> None:
        self._reviewer = reviewer
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
        if scope["method"] != "POST":
            await _refuse(send, 405, "405 Method Not Allowed\n", (b"allow", b"POST"))
        elif not is_json(headers.get(b"content-type", b"").decode("latin-1")):
            await _refuse(send, 415, NOT_JSON)
        elif int(headers.get(b"content-length", b"0")) > BODY_LIMIT:
            await _too_large(send)
        else:
            body = await _read(receive)
            if body is None:
                await _too_large(send)
            else:
                await _reply(send, 200, self._reviewer.answer(route, body), b"application/json")


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None once it is over the limit, however it declared its length."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= BODY_LIMIT else None
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_LIMIT:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _too_large(send: Send) -> None:
    # The rest of the body is still under way, so the connection can't serve another request.
    await _refuse(send, 413, "413 Content Too Large: 7 MiB at most\n", (b"connection", b"close"))


async def _refuse(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    await _reply(send, status, text.encode(), b"text/plain", *headers)


async def _reply(
    send: Send, status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
