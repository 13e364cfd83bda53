"""The order in which connections get a turn: addresses share the processor."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

from tests.unit.serving.loops import ASK, Echo, Looping, asks, looping
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response

GREEDY, OTHER = "127.0.0.2", "127.0.0.3"
#: A read takes 40 of them.
LONG = ASK.replace(b"\r\n", b"\r\nX: " + b"x" * 355 + b"\r\n", 1)


class Ordered(Echo):
    """Records the address of each client that it answers, and how long the request has waited."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.order, self.waits = seconds, list[str](), list[float]()
        self.reached, self.left = threading.Event(), threading.Event()

    def answer(self, request: Request, connection: Connection) -> Response | Callable[[], Response]:
        if request.url == b"/hold":
            self.reached.set()
            self.left.wait(20)
        else:
            time.sleep(self.seconds)
            self.order.append(connection.client)
            self.waits.append(connection.loop.lag.behind() - request.since)
        return super().answer(request, connection)

    @contextlib.contextmanager
    def held(self, server: Looping) -> Iterator[None]:
        """Keep the loop busy meanwhile, so that it finds all that is sent at once."""
        with server.dial() as client:
            client.sendall(b"GET /hold HTTP/1.1\r\n\r\n")
            assert self.reached.wait(20)
            self.order.clear()
            yield
            self.left.set()
            client.recv(1 << 16)

    def wait(self, count: int) -> None:
        """Wait for so many answers."""
        end = time.monotonic() + 20
        while len(self.order) < count:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_requests_in_a_row_have_one_turn_at_a_time() -> None:
    """Also if more of them are there to be read."""
    app = Ordered()
    with looping(app=app) as server, server.dial(GREEDY) as greedy, server.dial(OTHER) as other:
        assert asks(greedy)
        assert asks(other)
        with app.held(server):
            greedy.sendall(LONG * 100)
            other.sendall(LONG * 30)
        app.wait(130)
        ahead = accumulate(1 if client == GREEDY else -1 for client in app.order[:60])
        assert {-1, 0, 1} >= set(ahead)


def test_many_connections_of_an_address_have_the_turns_of_one() -> None:
    """Each answer takes longer than a slice. What has to wait for a turn counts as late."""
    app = Ordered(0.02)
    with looping(app=app) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.dial(address)) for address in [GREEDY] * 10 + [OTHER]]
        assert all(asks(client) for client in clients)
        with app.held(server):
            for client in clients[:-1]:
                client.sendall(ASK)
            clients[-1].sendall(ASK * 3)
        app.wait(13)
        assert app.order[:6].count(OTHER) == 3
        assert app.waits[-1] > 0.02 * 11


def test_a_new_client_has_its_turns_beside_many_of_another_address(tmp_path: Path) -> None:
    """Those have completed their handshakes, and send their first requests."""
    app = Ordered(0.03)
    with looping(tmp_path, app=app) as server, contextlib.ExitStack() as stack:
        greedy = [stack.enter_context(server.dial(GREEDY)) for _ in range(20)]
        pool = stack.enter_context(ThreadPoolExecutor(1))
        with app.held(server):
            for client in greedy:
                client.sendall(ASK)
            answered = pool.submit(server.asks, OTHER)
            time.sleep(0.1)
        assert answered.result()
        app.wait(21)
        assert app.order[-1] != OTHER
