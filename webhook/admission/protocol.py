"""HTTP/1.1 as uvicorn speaks it, with bounds for clients that mean no good.

uvicorn bounds neither the head of a request nor the time that it may take to come. The body is
bounded by the lane, which knows what it reads.
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webhook.admission import deadline


class Protocol(HttpToolsProtocol):
    """One connection. The API server's requests come whole, with a head of one or two KiB."""

    #: Bytes of a request that are not its body: head, trailers, framing of chunks.
    spare_bytes: ClassVar[int] = 64 * 1024
    #: Seconds in which a request must be whole; the API server waits for 30 at most.
    request_seconds: ClassVar[float] = 10.0
    #: Seconds that a request under way gets at the end of the server.
    last_seconds: ClassVar[float] = 5.0
    #: Seconds that a client gets there which has not asked anything yet.
    first_seconds: ClassVar[float] = 1.0
    #: Connections at once. An API server has as many as calls under way, a few hundred at most.
    most_connections: ClassVar[int] = 1000

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare = self.spare_bytes
        self._whole = True
        #: It has sent a whole request before.
        self._known = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request no longer than for a further one.

        Where there are too many, one that never asked anything has to go; the last, if all did.
        """
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            strangers = (c for c in self.connections if isinstance(c, Protocol) and not c._known)
            next(strangers, self).transport.abort()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; end the connection where it is too much beside a body."""
        self._spare -= len(data)
        super().data_received(data)
        if self._whole or self.transport.is_closing():
            return
        if self._spare < 0:
            self.send_400_response("Too much beside the body of the request.")
        elif self._deadline is None:
            self._expect()

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._whole = False
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body, which counts for the lane alone."""
        self._spare += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._completed()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close, or answer and close; a client that plays no part in it is not waited for.

        One that has just dialled, in order to ask something, gets a moment to ask it.
        """
        if not self._known and self._whole:
            self.loop.call_later(self.first_seconds, self.transport.close)
        else:
            super().shutdown()
        wait = self.first_seconds if self.transport.is_closing() else self.last_seconds
        self.loop.call_later(wait, self.transport.abort)

    def _unsupported_upgrade_warning(self) -> None:
        # The parser stops at an offer to upgrade, so that a body would be taken for a request.
        self.send_400_response("There is no other protocol than HTTP/1.1.")

    def _completed(self) -> None:
        self._whole = self._known = True
        self._spare = self.spare_bytes
        self._cancel()

    def _expect(self) -> None:
        """Wait for the rest of the request, and not for ever."""
        self._deadline = self.loop.call_later(self._seconds(), self.transport.abort)

    def _seconds(self) -> float:
        """How long the request may take to come; less where its sender waits for less."""
        return min(self.request_seconds, deadline.seconds(self.url.partition(b"?")[2]))

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
