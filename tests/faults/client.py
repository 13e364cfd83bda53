"""A client that treats the admission server as the API server does, and counts every review.

The API server calls webhooks through client-go and Go's net/http. This model follows their sources
(k8s.io/client-go v0.37: rest/request.go, rest/with_retry.go, transport/cache.go; Go 1.26:
net/http/transport.go):

- HTTP/1.1 over TLS with kept connections. The most recently used one is taken first, and at most 25
  stay idle. If none is idle, a new one is dialled to one of the Service's current endpoints.
- An idle connection that the server closed is noticed in the background and never used again.
- net/http does not replay a POST, even if its body can be rewound. After a byte of it is written,
  the end of the connection loses the review. It is sent again in only one case: if a reused
  connection broke *before* anything was written. In this model nothing can happen between the check
  of a connection and the write, so this case is the same as a connection that is known to be shut.
- A dial that fails, in TCP or TLS, loses the review. So does an answer that is cut short.
- An answer of 429 or 5xx with `Retry-After: SECONDS` is followed by another attempt after that
  time, up to ten times within the deadline.
- The deadline (`timeoutSeconds` of the webhook) limits all of this, and is in the query as
  `?timeout=5s`.

Two simplifications: a review that waits for its dial does not take a connection that becomes idle
meanwhile, and a share of the reviews closes its connection, so that handshakes never stop.
"""

import asyncio
import concurrent.futures
import itertools
import ssl
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, cast

import httptools
import uvloop

from tests.faults.questions import QUESTIONS, Question
from tests.unit.serving.clients import Reply

#: The number of idle connections that client-go keeps to one host.
_IDLE = 25
#: The number of attempts of client-go after answers with Retry-After.
_ATTEMPTS = 10


class Answer(NamedTuple):
    """A review that was answered rightly."""

    #: When it was sent, by `time.monotonic`.
    began: float
    seconds: float


class Loss(NamedTuple):
    """A review that got no answer."""

    uid: str
    why: str
    #: When it was sent, by `time.monotonic`.
    began: float
    #: When the connection on which it was sent was dialled; None if it never had one.
    dialled: float | None
    #: Seconds from when it was sent until it was lost.
    seconds: float


@dataclass
class Tally:
    """The outcome of every review."""

    sent: int = 0
    answers: list[Answer] = field(default_factory=list)
    #: The text and number of the answers with which the server shed reviews.
    shed: Counter[str] = field(default_factory=Counter)
    #: Answers that the API server would not have got from a server that works.
    wrong: list[str] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    #: Serial numbers of the certificates that were shown, in hex, and how often.
    serials: Counter[str] = field(default_factory=Counter)

    def milliseconds(self, quantile: float, since: int = 0) -> float:
        """Time to the answer at a quantile, of all answers or of those after the first `since`."""
        seconds = [answer.seconds for answer in self.answers[since:]]
        return 1000 * statistics.quantiles(seconds, n=1000)[round(quantile * 1000) - 1]

    def gap_after(self, moment: float) -> float:
        """Return the seconds from a moment to the first answer after it."""
        ends = (answer.began + answer.seconds - moment for answer in self.answers)
        return min(seconds for seconds in ends if seconds > 0)

    def __str__(self) -> str:
        whys = Counter(loss.why for loss in self.lost)
        return (
            f"{self.sent} sent, {len(self.answers)} answered, {self.shed.total()} shed, "
            f"{len(self.wrong)} wrong, {len(self.lost)} lost; {sum(self.serials.values())} dials; "
            f"p50 {self.milliseconds(0.5):.1f} ms, p99 {self.milliseconds(0.99):.1f} ms"
            + "".join(f"\n  lost {count}: {why}" for why, count in whys.items())
            + "".join(f"\n  shed {count}: {text}" for text, count in self.shed.items())
            + "".join(f"\n  wrong: {text}" for text in self.wrong[:5])
        )


class Load:
    """Sends reviews from its own thread while it is used as a context.

    The end of the context waits for the answers that are still missing. Then each sent review is in
    one of the tally's counts.
    """

    def __init__(
        self,
        ca: str,
        *ports: int,
        rate: float = 800,
        senders: int = 8,
        fresh: int = 4,
        deadline: float = 5.0,
        grace: float = 0.0,
        questions: Sequence[Question] = QUESTIONS,
    ) -> None:
        """Send at most `rate` reviews a second, and at most `senders` at once.

        Every `fresh`-th review closes its connection; 0 means none. `deadline` is in seconds.
        `grace` is how many seconds longer this client waits for an answer, because it shares the
        machine with the server and can be late itself.
        """
        #: The Service's endpoints, which may be changed at any time.
        self.ports = ports
        self.tally = Tally()
        self.senders = senders
        self._interval, self._fresh = 1 / rate, fresh
        self._deadline, self._grace = deadline, grace
        self._questions = itertools.cycle(questions)
        self._numbers, self._turns = itertools.count(1), itertools.count()
        self._context = ssl.create_default_context(cadata=ca)
        self._context.set_alpn_protocols(["http/1.1"])
        self._idle: list[_Connection] = []
        self._next = 0.0
        self._stopped = False
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._done: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Self:
        self._done = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        assert self._done
        self._done.result()
        self._pool.shutdown()
        tally = self.tally
        counted = len(tally.answers) + tally.shed.total() + len(tally.wrong) + len(tally.lost)
        assert tally.sent == counted

    def until(self, answered: int) -> None:
        """Wait until this number of reviews have been answered since the start."""
        # Generous: 20 a second.
        end = time.monotonic() + 60 + (answered - len(self.tally.answers)) / 20
        while len(self.tally.answers) < answered:
            assert self._done
            assert not self._done.done(), self._done.result()
            assert time.monotonic() < end, f"no {answered} answers: {self.tally}"
            time.sleep(0.02)

    def more(self, answered: int) -> None:
        """Wait until this number of further reviews have been answered."""
        self.until(len(self.tally.answers) + answered)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        await asyncio.gather(*(self._send() for _ in range(self.senders)))
        for connection in self._idle:
            connection.close()
        await asyncio.gather(*(connection.gone for connection in self._idle))

    async def _send(self) -> None:
        while not self._stopped:
            # Reviews that were late because the server stalled are not sent afterwards.
            self._next = max(self._next + self._interval, time.monotonic())
            await asyncio.sleep(self._next - time.monotonic())
            number = next(self._numbers)
            self.tally.sent += 1
            await self._review(
                f"{number:08d}-6393-11e8-b7cc-42010a800002",
                next(self._questions),
                last=bool(self._fresh) and number % self._fresh == 0,
            )

    async def _review(self, uid: str, question: Question, *, last: bool) -> None:
        tally, attempt = self.tally, _Attempt(time.monotonic())
        try:
            async with asyncio.timeout(self._deadline + self._grace):
                await self._ask(attempt, question.request(uid, self._deadline), last=last)
        except TimeoutError:
            attempt.why = f"no answer in {self._deadline:g} s"
        except OSError as error:
            attempt.why = f"{type(error).__name__}: {error}"
        reply = attempt.reply
        if reply and reply.status in (429, 503):
            tally.shed[f"{reply.status}: {reply.body.decode().strip()}"] += 1
        elif reply and reply.status == 200 and question.is_right(uid, reply.body):
            tally.answers.append(Answer(attempt.began, time.monotonic() - attempt.began))
        elif reply:
            tally.wrong.append(f"{uid}: {reply}")
        else:
            seconds = time.monotonic() - attempt.began
            tally.lost.append(Loss(uid, attempt.why, attempt.began, attempt.dialled, seconds))

    async def _ask(self, attempt: "_Attempt", request: bytes, *, last: bool) -> None:
        """Read an answer into `attempt`. Raise OSError if there is none."""
        for _ in range(_ATTEMPTS + 1):
            connection = self._take() or await self._dial()
            attempt.dialled = connection.dialled
            try:
                attempt.reply = reply = await connection.ask(request)
            except BaseException:
                connection.abort()
                raise
            if last or connection.closing or len(self._idle) >= _IDLE:
                connection.close()
                await connection.gone
            else:
                self._idle.append(connection)
            after = reply.headers.get("retry-after", "")
            if not after.isdecimal() or (reply.status != 429 and reply.status < 500):
                return
            if time.monotonic() + int(after) > attempt.began + self._deadline:
                return
            await asyncio.sleep(int(after))

    def _take(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        return None

    async def _dial(self) -> "_Connection":
        began, ports = time.monotonic(), self.ports
        port = ports[next(self._turns) % len(ports)]
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: _Connection(began),
            "127.0.0.1",
            port,
            ssl=self._context,
            server_hostname="localhost",
        )
        shown = transport.get_extra_info("ssl_object").getpeercert()
        self.tally.serials[shown["serialNumber"]] += 1
        return connection


@dataclass
class _Attempt:
    """The progress of a review."""

    began: float
    dialled: float | None = None
    reply: Reply | None = None
    why: str = ""


class _Connection(asyncio.Protocol):
    """One connection, with at most one open request."""

    def __init__(self, dialled: float) -> None:
        self.dialled = dialled
        #: Whether no further request may be sent on it.
        self.closing = False
        #: Done when the connection is.
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""
        self._begun = False

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return the answer. Raise OSError if there is none."""
        assert self._transport
        self._reset()
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def close(self) -> None:
        self.closing = True
        assert self._transport
        self._transport.close()

    def abort(self) -> None:
        self.closing = True
        assert self._transport
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():
            # Without a request. net/http closes such a connection as well.
            self.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error!r}")
            self.abort()

    def eof_received(self) -> None:
        self._end("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "the connection was closed")
        if not self.gone.done():
            self.gone.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.closing = True
        if self._reply and not self._reply.done():
            reply = Reply(self._parser.get_status_code(), self._headers, self._body)
            self._reply.set_result(reply)

    def _end(self, how: str) -> None:
        self.closing = True
        self._fail(f"{how} {'within' if self._begun else 'before'} the answer")

    def _fail(self, why: str) -> None:
        if self._reply and not self._reply.done():
            self._reply.set_exception(ConnectionError(why))
