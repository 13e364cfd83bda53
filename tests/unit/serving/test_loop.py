"""How connections are accepted, and which of them are kept."""

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.logs import capture_logs
from tests.unit.serving.loops import ASK, Echo, Looping, asks, ended, looping
from webhook.serving.connection import Connection
from webhook.serving.http import Request, Response
from webhook.serving.table import Table, source_key

#: The first record of a TLS client: a header that promises 512 bytes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
NEIGHBOR = "127.0.0.2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Looping]:
    with looping(tmp_path) as running:
        yield running


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with few places."""
    monkeypatch.setattr(Table, "places", 10)
    monkeypatch.setattr(Table, "reserve", 3)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_open(client: socket.socket) -> bool:
    client.settimeout(0.05)
    try:
        return bool(client.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        client.settimeout(5)


def test_many_are_served_at_once(server: Looping) -> None:
    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(lambda _: server.asks(), range(100))) == [True] * 100


@pytest.mark.parametrize("said", [b"", HELLO[:3], HELLO], ids=["nothing", "a-byte", "half"])
def test_a_client_that_never_ends_its_hello_does_no_harm(server: Looping, said: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(server.plain()).sendall(said)
        assert server.asks()
        assert len(server.loop.table.members) >= 50


def test_a_hello_may_come_byte_by_byte(server: Looping) -> None:
    assert server.context
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = server.context.wrap_bio(to_client, to_server, server_hostname="localhost")
    with server.plain() as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while client.version() is None or to_server.pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            for byte in to_server.read():
                plain.sendall(bytes([byte]))
                time.sleep(0.0005)
            if client.version() is None:
                to_client.write(plain.recv(1 << 16))
        assert client.version() == "TLSv1.3"


@pytest.mark.parametrize("said", [b"", HELLO])
def test_a_client_that_stays_silent_is_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: bytes
) -> None:
    monkeypatch.setattr(Connection, "handshake_seconds", 0.3)
    start = time.monotonic()
    with looping(tmp_path) as server, server.plain() as client:
        client.sendall(said)
        assert ended(client)
        assert 0.3 <= time.monotonic() - start < 5


@pytest.mark.parametrize("said", [b"", HELLO])
def test_a_client_that_goes_away_is_forgotten_at_once(server: Looping, said: bytes) -> None:
    with server.plain() as client:
        client.sendall(said)
        until(lambda: server.loop.table.members)
    until(lambda: not server.loop.table.members)


def test_plain_http_is_no_hello(server: Looping) -> None:
    with server.plain() as client, contextlib.suppress(ConnectionResetError):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert not client.recv(1 << 16).startswith(b"HTTP")


def test_a_client_that_dialled_before_the_end_is_served(
    monkeypatch: pytest.MonkeyPatch, server: Looping
) -> None:
    monkeypatch.setattr(Connection, "first_seconds", 10.0)
    with ThreadPoolExecutor(20) as pool:
        dialled = [server.plain() for _ in range(20)]
        server.loop.drain(0)
        assert list(pool.map(server.asks, dialled)) == [True] * 20


def test_the_longest_idle_one_makes_room(
    monkeypatch: pytest.MonkeyPatch, small: None, server: Looping
) -> None:
    monkeypatch.setattr(Table, "grace", 0.1)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.dial()) for _ in range(10)]
        for client in clients:
            assert asks(client)
        time.sleep(0.2)
        assert asks(clients[0]), "it is now the one that asked last"
        for _ in range(3):
            assert asks(stack.enter_context(server.dial()))
        assert [is_open(client) for client in clients[:5]] == [True, False, False, False, True]


def test_a_newcomer_is_not_closed_while_there_is_an_idle_one(
    monkeypatch: pytest.MonkeyPatch, small: None, server: Looping
) -> None:
    """Neither before nor within its handshake."""
    monkeypatch.setattr(Table, "grace", 0.2)
    monkeypatch.setattr(Table, "patience", 5.0)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.dial()) for _ in range(10)]
        assert all(asks(client) for client in idle)
        time.sleep(0.3)
        newcomers = [stack.enter_context(server.plain()) for _ in range(5)]
        newcomers[0].sendall(HELLO)
        until(lambda: [is_open(client) for client in idle] == [False] * 5 + [True] * 5)
        assert all(is_open(client) for client in newcomers)


def test_a_connection_without_a_request_makes_room_at_once(small: None, server: Looping) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.plain()) for _ in range(10)]
        for _ in range(5):
            assert server.asks()
        assert ended(silent[0])


def test_if_none_is_idle_newcomers_have_one_request_each(
    monkeypatch: pytest.MonkeyPatch, small: None, server: Looping
) -> None:
    """So a probe is answered, whatever other clients do."""
    monkeypatch.setattr(Table, "grace", 60.0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.dial()) for _ in range(10)]
        assert all(asks(client) for client in clients)
        for _ in range(10):
            newcomer = stack.enter_context(server.dial())
            newcomer.sendall(ASK)
            assert b"connection: close" in newcomer.recv(1 << 16)
            assert ended(newcomer)
        silent = [stack.enter_context(server.plain()) for _ in range(4)]
        assert ended(silent[0]), "the reserve is full, and its oldest goes"
        assert all(asks(client) for client in clients)


def test_an_address_has_as_many_places_as_no_other_needs(
    monkeypatch: pytest.MonkeyPatch, small: None, server: Looping
) -> None:
    monkeypatch.setattr(Table, "grace", 60.0)
    with contextlib.ExitStack() as stack:
        greedy = [stack.enter_context(server.dial()) for _ in range(10)]
        assert all(asks(client) for client in greedy)
        others = [stack.enter_context(server.dial(NEIGHBOR)) for _ in range(5)]
        assert all(asks(client) for client in others), "the others get theirs"
        assert [asks(client) for client in greedy] == [False] * 5 + [True] * 5
        for _ in range(20):
            stack.enter_context(server.plain())
        assert all(asks(client) for client in others), "and keep them"


def test_addresses_are_counted_as_one_client_has_them() -> None:
    assert source_key("10.0.0.1") != source_key("10.0.0.2")
    assert source_key("::ffff:10.0.0.1") != source_key("::ffff:10.0.0.2")
    assert source_key("2001:db8::1") == source_key("2001:db8::2:3")
    assert source_key("2001:db8::1") != source_key("2001:db8:0:1::1")
    assert source_key("fe80::1%eth0") == source_key("fe80::2%eth0")


HALF = b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 50_000


def test_bodies_however_small_count_against_one_bound(
    monkeypatch: pytest.MonkeyPatch, server: Looping
) -> None:
    monkeypatch.setattr(Table, "most_held", 1_000_000)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.dial()) for _ in range(40)]
        for client in clients:
            client.sendall(HALF)
        table = server.loop.table
        until(lambda: len([m for m in table.members if m.held]) < 21)
        assert server.asks(), "a request that is whole is answered"
        assert table.held <= 1_000_000
        assert b" 503 " in clients[0].recv(1 << 16), "the oldest goes"
        assert is_open(clients[-1])
        last = stack.enter_context(server.dial(NEIGHBOR))
        last.sendall(HALF)
        for _ in range(10):
            with contextlib.suppress(OSError), server.dial() as again:
                again.sendall(HALF)
        last.sendall(b"x" * 10_000)
        assert last.recv(1 << 16).startswith(b"HTTP/1.1 200"), "another address keeps its own"


def test_many_requests_in_a_row_end_the_connection() -> None:
    """Each takes 40 times as much memory as on the wire."""
    with looping() as server, server.plain() as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        answers = b""
        while part := client.recv(1 << 16):
            answers += part
    assert (answers.count(b" 200 "), answers.count(b" 400 ")) == (64, 1)


def test_what_a_client_does_not_read_counts_too_and_has_a_deadline(
    monkeypatch: pytest.MonkeyPatch, server: Looping
) -> None:
    monkeypatch.setattr(Connection, "write_seconds", 2.0)
    body = b"x" * 4_000_000
    with server.dial() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: server.loop.table.held > 500_000)
        until(lambda: not server.loop.table.members)


class Slow(Echo):
    """Has a thread answer, which waits for leave."""

    def __init__(self) -> None:
        self.leave = threading.Event()

    def answer(self, request: Request, connection: Connection) -> Response | Callable[[], Response]:
        def make() -> Response:
            if request.url == b"/slow":
                self.leave.wait(10)
            return Response(200, b"", request.url)

        return make


def test_an_answer_that_takes_long_holds_up_its_own_connection_alone(tmp_path: Path) -> None:
    app = Slow()
    with looping(tmp_path, app=app, threads=2) as server, server.dial() as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        with server.dial() as other:
            other.sendall(b"GET /other HTTP/1.1\r\n\r\n")
            assert other.recv(1 << 16).endswith(b"/other")
        app.leave.set()
        answers = b""
        while b"/next" not in answers:
            answers += slow.recv(1 << 16)
        assert answers.index(b"/slow") < answers.index(b"/next")


def test_a_client_that_leaves_before_its_answer_is_forgotten(tmp_path: Path) -> None:
    app = Slow()
    with looping(tmp_path, app=app, threads=1) as server:
        with server.dial() as client:
            client.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
            until(lambda: any(m.known for m in server.loop.table.members))
        app.leave.set()
        until(lambda: not server.loop.table.members)


def test_a_fault_of_an_application_ends_one_connection(tmp_path: Path) -> None:
    class Faulty(Echo):
        def answer(self, request: Request, connection: Connection) -> Response:
            raise KeyError("a fault")

    with looping(tmp_path, app=Faulty()) as server:
        for _ in range(2):
            assert not server.asks()


PIECES = (
    ASK,
    b"GET /x?timeout=1s HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000,
    b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nxyz",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"X" * 70_000,
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_whatever_clients_say_and_wherever_it_is_cut_nothing_is_left(
    tmp_path: Path, small: None, seed: int, tls: bool
) -> None:
    """Answers stay in order, no step fails, and the table is empty in the end."""
    chance = random.Random(seed)
    with capture_logs() as logs, looping(tmp_path if tls else None) as server:
        clients: list[socket.socket] = []
        for _ in range(120):
            with contextlib.suppress(OSError):
                clients.append(server.dial(chance.choice(("127.0.0.1", NEIGHBOR))))
                said = b"".join(chance.choices(PIECES, k=chance.randrange(1, 6)))
                while said:
                    cut = chance.choice((1, 7, 100, 16_384, 100_000))
                    clients[-1].sendall(said[:cut])
                    said = said[cut:] if chance.random() > 0.02 else b""
            for client in clients:
                client.settimeout(0.001)
                if chance.random() < 0.3:
                    with contextlib.suppress(OSError):
                        client.recv(chance.choice((1, 1 << 16)))
            if len(clients) > 8:
                clients.pop(chance.randrange(len(clients))).close()
        assert server.asks("127.0.0.3")
        for client in clients:
            client.close()
        until(lambda: not server.loop.table.members)
        assert not server.loop.table.held
        assert not server.loop.table._sources
    assert {entry["event"] for entry in logs} <= {
        "Invalid HTTP request received.", "Shutting down"
    }  # fmt: skip
