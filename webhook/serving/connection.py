"""One client connection: TLS, HTTP/1.1 and the responses. No call blocks on the client."""

import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httptools

from webhook.log import Log
from webhook.serving import deadline, http
from webhook.serving.channel import Channel
from webhook.serving.http import BODY_LIMIT, Request, Response

if TYPE_CHECKING:
    from webhook.serving.loop import Loop, Port
    from webhook.serving.rotation import Rotation
    from webhook.serving.table import Source

log = Log(__name__)

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
#: The maximum number of bytes to read at once. OpenSSL takes about 10 ms for so many key updates.
_READ_SIZE = 16384
#: The maximum number of reads from one connection in one turn. A large body must not delay the
#: other connections.
_READS = 16
#: The memory in bytes that a header or a part of a body needs in addition to its text.
_PIECE = 160
#: The maximum number of requests of one connection that wait for their turn. The API server never
#: sends one before it has the response to the last one.
_WAITING = 64


class Application(Protocol):
    """The interface of an application that answers the requests on a port."""

    def trusts(self, peer: ssl.SSLObject) -> float:
        """Return until when a client may send any request, in seconds since 1970."""

    def rejection(self, request: Request, connection: "Connection") -> Response | None:
        """Check the head of a request. Return a response if the body can't change it, else None.

        A response with status 400 ends the connection.
        """

    def answer(
        self, request: Request, connection: "Connection"
    ) -> Response | Callable[[], Response]:
        """Return the response to a complete request, or a function that makes it in a thread."""

    def shed(self, limit: float) -> Response:
        """Return the response to a request that can't be answered within its limit (in seconds)."""


class Connection:
    """A client connection. No method blocks. The loop calls `proceed` when the socket is ready."""

    #: The time limits in seconds for the handshake, for receiving a request, and for sending a
    #: response.
    handshake_seconds = 10.0
    request_seconds = 10.0
    write_seconds = 10.0
    #: Seconds without a request after which the connection closes. The API server closes idle
    #: connections after 90 seconds. If this server closed first, the API server might send its next
    #: request at the same moment and lose it.
    idle_seconds = 120.0
    #: Seconds in which input is read and discarded after the last response. Closing a socket with
    #: unread input resets the connection, and the client might lose the response.
    linger_seconds = 2.0
    #: When the server shuts down: the seconds that remain for a response in progress, and for a
    #: client that has just connected to send its request.
    last_seconds, first_seconds = 5.0, 1.0

    source: "Source"

    def __init__(self, loop: "Loop", plain: socket.socket, port: "Port", client: str) -> None:
        self.loop, self.socket, self.port, self.client = loop, plain, port, client
        #: When it was accepted, when it last sent a complete request, and when it last had a turn.
        self.made = self.active = self.turn = loop.now
        self.deadline = loop.now + self.handshake_seconds
        #: Set by the table: whether the client has sent a complete request, and how many bytes it
        #: holds.
        self.known, self.held = False, 0
        #: Whether the next response is the last one.
        self.reserved = False
        self.closed = False
        #: Set by the loop: which events of the socket it waits for, and in which epoll object.
        self.fd, self.interest = plain.fileno(), 0
        self.poller: select.epoll | None = None
        self.trusted_until = 0.0
        self.proceed: Callable[[], None] = self._read
        #: None until the client has sent something, and on a port without a certificate.
        self.tls: Channel | None = None
        self._since = loop.lag.behind()
        self._parser: httptools.HttpRequestParser | None = None
        #: The request that is being received, its time limit, and whether half of this time is
        #: over.
        self._request: Request | None = None
        self._limit, self._half = 0.0, False
        #: The bytes that may still arrive outside the body of the request.
        self._spare = http.SPARE_BYTES
        #: Complete requests that wait for their responses, and the bytes that they hold.
        self._complete: deque[Request] = deque()
        self._waiting = 0
        #: The request that a thread is answering.
        self._answering: Request | None = None
        #: The response that ends the connection. `_ignoring`: further input is ignored.
        self._final: Response | None = None
        self._ignoring = self._ending = False
        #: Output that the client has not yet received.
        self._out = bytearray()
        #: When the server shuts down: until when a request must have arrived.
        self._drained_at = float("inf")

    # Called by the loop and the table

    def expire(self) -> None:
        """Do what is due at the deadline: close the connection, or check the limit of a request."""
        request = None if self._out or self._ignoring else self._request
        if request and self._limit and not self._half and self.loop.now < self._drained_at:
            self._half = True
            self.deadline = min(self.loop.now + self._limit / 2, self._drained_at)
            # The delay may be the fault of this process and not of the client.
            if self.loop.lag.too_late(request.since, self._limit):
                self._finish(self.port.app.shed(self._limit))
                self._settle()
        elif self.known and not (self._limit or self._out or self._ending):
            self._end()
        else:
            self.abort()

    def drain(self) -> None:
        """Close after answering the requests received so far. A new client may still send one."""
        busy = self._request or self._complete or self._answering or self._out
        if self._ending:
            return
        if self.known and not busy:
            self._end()
            return
        self.reserved = True
        self._drained_at = self.loop.now + self.last_seconds
        wait = self.last_seconds if busy else self.first_seconds
        self.deadline = min(self.deadline, self.loop.now + wait)

    def abort(self) -> None:
        """Close immediately."""
        if self.closed:
            return
        self.closed = True
        self.loop.forget(self)
        self.socket.close()
        self._complete.clear()
        # These two objects refer to each other. Breaking the cycle frees them without the garbage
        # collector.
        self._parser = None
        del self.proceed

    def give_up(self) -> None:
        """Reject the pending requests because all connections together hold too much memory."""
        if self._out or self._ignoring or (self.tls and not self.tls.shaken):
            self.abort()
            return
        self._complete.clear()
        self._waiting = 0
        self._finish(self.port.app.shed(self._limit))
        self._settle()

    def deliver(self, response: Response) -> None:
        """Send the response that a thread made."""
        request, self._answering = self._answering, None
        if request and not (self.closed or self._ending):
            self._send(response, request)
            self._settle()

    # Input

    def _read(self) -> None:
        for _ in range(0 if self._complete else _READS):
            try:
                raw = self.socket.recv(_READ_SIZE)
            except BlockingIOError:
                break
            except OSError:
                raw = b""
            if not raw:
                self.abort()
                return
            data = self._decrypt(raw, self.port.certificates) if self.port.certificates else raw
            if data:
                self._spare -= len(data)
                self._parse(data)
            if not data or self._complete or self._ignoring:
                break
        if self.tls and self.tls.ended and not (self._ending or self.closed):
            self._last()
        self._settle()

    def _decrypt(self, raw: bytes, certificates: "Rotation") -> bytes:
        """Return the data in a client's bytes, and send what TLS replies to them."""
        if self.tls is None:
            # Only after the client has sent something, because the TLS state takes 50 KiB.
            self.tls = Channel(certificates.context)
        tls, before = self.tls, self.tls.shaken
        try:
            data = tls.receive(raw)
        except ssl.SSLError:
            # OpenSSL has written an alert about the error. It must reach the client.
            self._end()
            return b""
        if reply := tls.reply():
            self._push(reply)
            if self.closed:
                return b""
        if tls.shaken and not before:
            self.trusted_until = self.port.app.trusts(tls.peer)
            now = self.loop.now
            self.deadline = (
                min(self.deadline, now + self.first_seconds)
                if self.loop.ending
                else now + self.idle_seconds
            )
        return data

    def _last(self) -> None:
        """Answer what the client has asked before it closed its side, and nothing more."""
        requests = [*self._complete, self._answering]
        if last := next(filter(None, reversed(requests)), None):
            last.last = True
            self._ignoring = True
        elif not (self._out or self._final):
            self._end()

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
            # Without this, data after a client's last request would make that request invalid.
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The parser stops here and would treat the body as a new request.
            self._finish(http.bad("There is no other protocol than HTTP/1.1."))
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, MemoryError):
                raise error.__context__ from None
            if not self._ignoring:
                log.warning("Invalid HTTP request received.")
            self._finish(http.bad("Invalid HTTP request received."))
        if self._spare < 0:
            self._finish(http.bad("Too much beside the body of the request."))

    def on_message_begin(self) -> None:
        """Start a new request."""
        if self._ignoring:
            return
        since = self.loop.lag.since
        if not self.known:
            busy = self.loop.lag.behind() - self._since
            if self.loop.now - self.made - busy <= self.first_seconds:
                # The client connected to send this request, and it has waited since it was
                # accepted.
                since = self._since
        self._request = Request(since)

    def on_url(self, url: bytes) -> None:
        """Append a part of the URL."""
        if self._request:
            self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header. The last value of a repeated header counts. Trailers are ignored."""
        request = self._request
        if request and not request.method:
            request.headers[name.lower()] = value
            request.held += _PIECE + len(name) + len(value)

    def on_headers_complete(self) -> None:
        """Decide from the head of the request what to do with its body."""
        request, parser = self._request, self._parser
        if request is None or parser is None:
            return
        if parser.should_upgrade():
            self._finish(http.bad("There is no other protocol than HTTP/1.1."))
            return
        request.method = parser.get_method()
        headers = request.headers
        expects = headers.get(b"expect")
        rejection = request.rejection = self.port.app.rejection(request, self)
        if rejection and (rejection.status == 400 or expects):
            self._finish(rejection)
        elif int(headers.get(b"content-length", 0)) > BODY_LIMIT:
            self._finish(http.rejection(413))
        elif expects and expects.lower() == b"100-continue" and not (self._complete or self._out):
            self._write(http.CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Append a part of the body, or reject a body that is too large."""
        # After another request in the same data, this part was not subtracted before.
        self._spare = min(http.SPARE_BYTES, self._spare + len(body))
        request = self._request
        if request is None:
            return
        request.size += len(body)
        if request.size > BODY_LIMIT:
            self._finish(http.rejection(413))
        elif request.keeps_body and not request.rejection:
            request.parts.append(body)
            request.held += _PIECE + len(body)

    def on_message_complete(self) -> None:
        """Queue a complete request."""
        request, self._request, parser = self._request, None, self._parser
        if request is None or parser is None:
            return
        if len(self._complete) == _WAITING:
            self._finish(http.bad("Too many requests without waiting for responses."))
            return
        parts = request.parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        request.last = parser.get_http_version() != "1.1" or not parser.should_keep_alive()
        self._ignoring = request.last
        self._spare, self._limit, self._half = http.SPARE_BYTES, 0.0, False
        self._complete.append(request)
        self._waiting += request.held

    # Responses

    def _settle(self) -> None:
        """Answer the next request if this is possible now. Then wait for further events."""
        if self.closed:
            return
        if not (self._out or self._answering or self._ending):
            if self._complete:
                request = self._complete.popleft()
                self._waiting -= request.held
                self._answer(request)
            elif self._final:
                self._send(self._final, None)
        self._account()
        self._wait()

    def _account(self) -> None:
        """Report to the table how many bytes this connection holds."""
        held = len(self._out)
        if not self._ending:
            held += self._waiting + http.SPARE_BYTES - self._spare
            held += self.tls.held if self.tls else 0
            held += self._request.held if self._request else 0
        if held != self.held and not self.closed:
            self.loop.table.hold(self, held)

    def _wait(self) -> None:
        """Wait for the next event on the socket."""
        if self.closed or self._ending:
            return
        if self._out:
            self.loop.want(self, WRITE)
        elif self._answering:
            self.loop.want(self, 0)
        else:
            if self._complete or self._final:
                self.loop.soon(self)
            elif (self._request or self._spare < http.SPARE_BYTES) and not self._limit:
                self._time()
            if self.interest != READ:
                self.loop.want(self, READ)

    def _time(self) -> None:
        """Set the deadline of a request that has begun to arrive."""
        url = self._request.url if self._request else b""
        self._limit = min(self.request_seconds, deadline.seconds(url.partition(b"?")[2]))
        now = self.loop.now
        self.deadline = min(now + self._limit / 2, now + self.idle_seconds, self._drained_at)

    def _answer(self, request: Request) -> None:
        newcomer = not self.known
        self.loop.table.ask(self, self.loop.now)
        if newcomer:
            # From now on the loop schedules this connection together with the known ones.
            self.loop.want(self, self.interest)
        answer = request.rejection or self.port.app.answer(request, self)
        if isinstance(answer, Response):
            self._send(answer, request)
        else:
            self._answering, self.deadline = request, float("inf")
            self.loop.work(self, answer)

    def _send(self, response: Response, request: Request | None) -> None:
        if request and request.method == b"HEAD" and response.length is None:
            response = response._replace(body=b"", length=len(response.body))
        last = request is None or request.last or self.reserved or self.loop.draining
        self.deadline = self.loop.now + self.idle_seconds
        self._write(http.encode(response, self.loop.date, last=last))
        if last and not self.closed:
            self._end()

    def _finish(self, response: Response) -> None:
        """Ignore all further input. End with this response, after those that are still due."""
        if not self._ignoring:
            self._final, self._ignoring = response, True
        self._request, self._spare, self._limit = None, http.SPARE_BYTES, 0.0

    def _write(self, data: bytes) -> None:
        self._push(self.tls.seal(data) if self.tls else data)

    def _push(self, data: bytes) -> None:
        if not self._out:
            # The socket almost always accepts all data at once.
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
                return
        if data:
            self._out += data
            self._flush()

    def _flush(self) -> None:
        out = self._out
        try:
            while out:
                del out[: self.socket.send(out)]
        except BlockingIOError:
            if self.proceed != self._flush:
                self.proceed = self._flush
                self.deadline = min(self._latest(), self.loop.now + self.write_seconds)
            self.loop.want(self, WRITE)
            return
        except OSError:
            self.abort()
            return
        if self.proceed == self._flush:
            self.proceed = self._read
            self.deadline = min(self._latest(), self.loop.now + self.idle_seconds)
            # A request that is being received gets its full time again.
            self._limit, self._half = 0.0, False
            if self._ending:
                self._end()
            else:
                self._settle()

    def _latest(self) -> float:
        """Return the latest possible deadline: that of the handshake or of the shutdown."""
        shaken = self.tls is None or self.tls.shaken
        shaken_at = float("inf") if shaken else self.made + self.handshake_seconds
        return min(shaken_at, self._drained_at)

    def _end(self) -> None:
        """Close after the client has received all responses."""
        self._ending = self._ignoring = True
        self._complete.clear()
        if self._out:
            return
        self.loop.table.hold(self, 0)
        with contextlib.suppress(OSError):
            if self.tls:
                self.socket.send(self.tls.end())
            self.socket.shutdown(socket.SHUT_WR)
        self.proceed = self._discard
        self.deadline = self.loop.now + self.linger_seconds
        self.loop.want(self, READ)

    def _discard(self) -> None:
        """Discard all input until the client closes the connection too."""
        try:
            if self.socket.recv(_READ_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.abort()
