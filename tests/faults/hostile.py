"""Clients that mean no good, or are broken."""

import contextlib
import itertools
import json
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

from tests.faults.replica import PATIENCE, Replica
from tests.unit.admission.reviews import pod, review
from tests.unit.serving.clients import request

_PATH = "/mutate/linkerd"
_WHOLE = request(_PATH, json.dumps(review(pod())).encode())
#: With this option, closing a socket resets the connection.
_RESET = struct.pack("ii", 1, 0)


def hello() -> bytes:
    """Return a TLS ClientHello."""
    answered, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(answered, said, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


_HELLO = hello()


@contextlib.contextmanager
def silent(replica: Replica, count: int, *, kinds: int = 4) -> Iterator[None]:
    """Hold connections open with no data, half a ClientHello, half a head, or half a body.

    `kinds` is how many of these four are used, from the first.
    """
    said = (b"", _HELLO[:100], _WHOLE[:60], _WHOLE[:-100])
    with contextlib.ExitStack() as stack:
        for number in range(count):
            kind = number % kinds
            if kind < 2:
                stack.enter_context(_plain(replica)).sendall(said[kind])
            else:
                stack.enter_context(replica.client.connect()).send(said[kind])
        yield


def _plain(replica: Replica) -> socket.socket:
    return socket.create_connection(("127.0.0.1", replica.port), PATIENCE)


@contextlib.contextmanager
def slow_readers(replica: Replica, count: int, *, requests: int = 200) -> Iterator[None]:
    """Hold connections open that send many requests and read one byte of the answers at times."""
    payload = _WHOLE * requests
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(count):
            plain = stack.enter_context(socket.socket())
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.settimeout(PATIENCE)
            plain.connect(("127.0.0.1", replica.port))
            tls = replica.client.context.wrap_socket(plain, server_hostname="localhost")
            stack.enter_context(tls)
            tls.settimeout(0.02)
            # The server stops reading when its answers are not read.
            with contextlib.suppress(TimeoutError):
                tls.sendall(payload)
            readers.append(tls)
        with _beside(lambda: _sip(readers)):
            yield


def _sip(readers: list[ssl.SSLSocket]) -> None:
    time.sleep(0.1)
    for reader in readers:
        with contextlib.suppress(OSError):
            reader.recv(1)


def dial_and_drop(replica: Replica, count: int) -> Counter[str]:
    """Open connections and drop them at once, one after the other, in several ways.

    Every twentieth is dropped after its TLS handshake. Return the number for each way.
    """
    ways = Counter[str]()
    for number in range(count):
        plain = _plain(replica)
        if number % 20 == 0:
            replica.client.context.wrap_socket(plain, server_hostname="localhost").close()
            ways["closed after the handshake"] += 1
            continue
        with plain:
            if number % 3 == 0:
                plain.sendall(_HELLO)
                ways["reset within the handshake"] += 1
            if number % 3 == 1:
                ways["reset"] += 1
            if number % 3 == 2:
                ways["closed"] += 1
            else:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return ways


class Flood:
    """Sends one bad request after the other from some threads, as a context."""

    def __init__(self, replica: Replica, requests: dict[str, bytes], *, threads: int = 4) -> None:
        self._replica = replica
        self._requests = requests
        self._threads = threads
        #: How each was answered: its name and a status, or how the connection ended.
        self.answers: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        for number in range(self._threads):
            names = itertools.cycle(sorted(self._requests, key=lambda n: hash((n, number))))
            self._stack.enter_context(_beside(partial(self._send, names)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _send(self, names: Iterator[str]) -> None:
        name = next(names)
        try:
            with self._replica.client.connect() as connection:
                with contextlib.suppress(OSError):
                    connection.send(self._requests[name])
                how = str(connection.reply().status)
        except TimeoutError:
            how = "no answer"
        except (OSError, AssertionError):
            how = "closed"
        self.answers[name, how] += 1


OVERSIZED = {
    "a length of 8 MiB": request(_PATH, b"x" * 2**20, headers={
        "Content-Type": "application/json", "Content-Length": str(8 * 2**20),
    }),
    "chunks of 8 MiB": request(_PATH, headers={
        "Content-Type": "application/json", "Transfer-Encoding": "chunked",
    }) + b"100000\r\n" + (b"x" * 2**20 + b"\r\n100000\r\n") * 8,
    "a header of 1 MiB": request(_PATH, _WHOLE, headers={"X-Long": "x" * 2**20}),
    "20,000 headers": request(_PATH, _WHOLE, headers={f"X-{n}": "x" for n in range(20_000)}),
    "a path of 1 MiB": request("/" + "x" * 2**20, method="GET"),
}  # fmt: skip

MALFORMED = {
    "noise": random.Random(5).randbytes(4096),
    "no HTTP": b"EHLO example.com\r\n\r\n",
    "a length below zero": request(_PATH, b"{}", headers={"Content-Length": "-1"}),
    "two lengths": request(_PATH, b"{}").replace(b"\r\n", b"\r\nContent-Length: 5\r\n", 1),
    "length and chunks": request(_PATH, b"{}", headers={
        "Content-Length": "2", "Transfer-Encoding": "chunked",
    }),
    "invalid chunks": request(_PATH, b"zz\r\n", headers={"Transfer-Encoding": "chunked"}),
    "no JSON": request(_PATH, b"{" * 5000),
    "no JSON, for the gate": request("/validate/linkerd/enforce", b"[" * 5000),
    "no review": request("/validate/linkerd/enforce", b'{"kind": "Pod"}'),
    "no such path": request("/mutate/nothing", b"{}"),
    "HTTP/9.9": _WHOLE.replace(b"HTTP/1.1", b"HTTP/9.9"),
    "an upgrade": request(_PATH, b"{}", headers={"Connection": "upgrade", "Upgrade": "h2c"}),
}  # fmt: skip


@contextlib.contextmanager
def _beside(step: Callable[[], None]) -> Iterator[None]:
    """Repeat a step in its own thread during the context."""
    stopped = threading.Event()

    def repeat() -> None:
        while not stopped.is_set():
            step()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
