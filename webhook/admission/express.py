"""The express lane: reviews as the API server sends them are answered as soon as they are whole.

A task, a queue of messages and a response in parts, which ASGI asks for, cost as much as a review
(docs/performance.md). A request that is POSTed to an admission path as plain JSON of a known and
moderate length, with no answer under way on its connection, needs none of them; any other takes
the lane, and both give the same answers.
"""

from functools import lru_cache
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from webhook.admission.lane import SMALL, Lane, Target
from webhook.admission.protocol import Protocol

#: Seconds in which a client that dialled in order to ask does so.
_AT_ONCE = 1.0
#: Headers of a request that is not plain.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Express(Protocol):
    """One connection of a server whose application is a `Lane`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lane = cast("Lane", self.app)
        #: Where the review under way goes; None for a request that takes the lane.
        self._target: Target | None = None
        self._parts: list[bytes] = []
        #: This answer is the last.
        self._last = False
        #: What the loop's lag was when the request began to come, the first one with its handshake.
        self._since = self._lane.lag.behind
        self._made = 0.0

    def connection_made(self, transport: Any) -> None:
        """Find out who calls, where clients must show a certificate."""
        super().connection_made(transport)
        self._made = self.loop.time()
        if self._lane.clients is not None:
            known = self._lane.clients.knows(transport.get_extra_info("peercert"))
            self.app_state = {**self.app_state, "client": known}

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        super().on_message_begin()
        if self._known or self.loop.time() - self._made > _AT_ONCE:
            self._since = self._lane.lag.behind
        self.scope["state"]["since"] = self._since

    def on_headers_complete(self) -> None:
        """Choose the way of the request."""
        self._target = self._direct()
        if self._target is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        if self._target is None:
            super().on_body(body)
        else:
            self._spare += len(body)
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer, where the request does not take the lane."""
        target, self._target = self._target, None
        if target is None:
            super().on_message_complete()
            return
        self._completed()
        body = b"".join(self._parts)
        self._parts.clear()
        self._reply(*self._lane.answer(target, self._since, body))

    def shutdown(self) -> None:
        """Close, or answer and close."""
        if self._target is None:
            super().shutdown()
        else:
            self._last = True
            self.loop.call_later(self.last_seconds, self.transport.abort)

    def _expect(self) -> None:
        """At half of the time look whether it is we who are slow: then it is turned away."""
        half = self._seconds() / 2
        self._deadline = self.loop.call_later(half, self._expire, half)

    def _expire(self, rest: float) -> None:
        begun = self._is_answering() and self.cycle.response_started
        if self._lane.lag.too_late(self._since, 2 * rest) and not begun:
            self._last = True
            self._reply(*self._lane.shed(2 * rest))
        else:
            self._deadline = self.loop.call_later(rest, self.transport.abort)

    def _direct(self) -> Target | None:
        target = self._lane.target(self.url)
        if (
            target is None
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or self._is_answering()
            or self.flow.write_paused
            or not self._lane.welcomes(self.app_state)
        ):
            return None
        length = json = False
        for name, value in self.headers:
            if name == b"content-length":
                length = len(value) < 8 and int(value) <= SMALL
            elif name == b"content-type":
                json = value == b"application/json"
            elif name in _NOT_PLAIN:
                return None
        return target if length and json else None

    def _is_answering(self) -> bool:
        # uvicorn says that there is always a cycle; before the first request there is none.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _reply(self, status: int, content_type: bytes, body: bytes) -> None:
        """Write a whole response at once, and wait for the next request."""
        fields, closing = _fields(tuple(self.server_state.default_headers))
        if status == 503:
            fields += b"retry-after: 1\r\n"
        if not closing and (self._last or not self.parser.should_keep_alive()):
            fields, closing = fields + b"connection: close\r\n", True
        self.transport.write(
            b"%scontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s"
            % (STATUS_LINE[status], content_type, len(body), fields, body)
        )
        if closing:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


@lru_cache(maxsize=2)
def _fields(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, bool]:
    """The headers of every response, which change with the second, and whether they end it."""
    return b"".join(b"%s: %s\r\n" % pair for pair in headers), (b"connection", b"close") in headers
