"""A small DNS server for the cluster: the names of Services, from the API server."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from tests.cluster.api import Api, StatusError

_NO_SUCH_NAME, _A = 3, 1


@contextlib.contextmanager
def serving(api: Api, address: str) -> Iterator[None]:
    """Answer on port 53 of an address until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        server.settimeout(0.2)
        over = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, api, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _serve(server: socket.socket, api: Api, over: threading.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            query, client = server.recvfrom(512)
            server.sendto(_answer(query, api), client)


def _answer(query: bytes, api: Api) -> bytes:
    """Return the answer to a query of one question (RFC 1035)."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    question = query[12 : at + 5]
    (kind,) = struct.unpack("!H", question[-4:-2])
    address = _address(".".join(labels).lower(), api)
    found = address and kind == _A
    flags = 0x8180 | (0 if address else _NO_SUCH_NAME)
    head = query[:2] + struct.pack("!5H", flags, 1, 1 if found else 0, 0, 0)
    if not found:
        return head + question
    # The name is a pointer to that of the question.
    record = struct.pack("!3HIH", 0xC00C, _A, 1, 5, 4) + socket.inet_aton(address)
    return head + question + record


def _address(name: str, api: Api) -> str:
    """Return the cluster IP of a Service by its full name; empty if there is none."""
    parts = name.removesuffix(".svc.cluster.local").split(".")
    if not name.endswith(".svc.cluster.local") or len(parts) != 2:
        return ""
    try:
        return str(api.get("Service", *parts)["spec"].get("clusterIP", ""))
    except StatusError:
        return ""
