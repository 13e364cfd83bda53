"""The server's loop in a thread of this process, with a small application."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.unit.serving.server import Files
from webhook.admission.metrics import Metrics
from webhook.serving import http, tls
from webhook.serving.connection import Connection
from webhook.serving.health import Health
from webhook.serving.http import Request, Response
from webhook.serving.loop import Loop, Port
from webhook.serving.rotation import Rotation

ASK = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"


class Echo:
    """Answers with the request's body."""

    def trusts(self, peer: ssl.SSLObject) -> float:
        return float("inf")

    def rejection(self, request: Request, connection: Connection) -> Response | None:
        return None

    def answer(self, request: Request, connection: Connection) -> Response | Callable[[], Response]:
        return Response(200, http.TEXT, request.body)

    def shed(self, limit: float) -> Response:
        return http.rejection(503)


class Looping:
    """A loop that runs, and clients of it."""

    def __init__(self, loop: Loop, address: tuple[str, int], ca: Path | None) -> None:
        self.loop, self.address = loop, address
        self.context = ssl.create_default_context(cafile=str(ca)) if ca else None

    def plain(self, source: str = "127.0.0.1") -> socket.socket:
        """Dial from an address, without sending anything."""
        return socket.create_connection(self.address, 10, source_address=(source, 0))

    def dial(self, source: str | socket.socket = "127.0.0.1") -> socket.socket:
        """Dial, with a TLS handshake if the port has a certificate; `source` may have dialled."""
        plain = self.plain(source) if isinstance(source, str) else source
        if not self.context:
            return plain
        return self.context.wrap_socket(plain, server_hostname="localhost")

    def asks(self, source: str | socket.socket = "127.0.0.1") -> bool:
        """Dial and send a request. Return whether there was an answer."""
        with contextlib.suppress(OSError), self.dial(source) as client:
            return asks(client)
        return False


def asks(client: socket.socket) -> bool:
    """Send a request on a connection. Return whether there was an answer."""
    with contextlib.suppress(OSError):
        client.sendall(ASK)
        return client.recv(1 << 16).endswith(b"hi")
    return False


def ended(client: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        return not client.recv(1)
    return True


@contextlib.contextmanager
def looping(
    folder: Path | None = None, *, app: Echo | None = None, threads: int = 1
) -> Iterator[Looping]:
    """Run a loop on any address of the loopback network; with TLS if there is a folder for files.

    After it every connection must be closed.
    """
    certificates = None
    if folder:
        made = Files(folder)
        files = tls.Files(made.cert, made.key)
        certificates = Rotation(files, tls.load(files), Metrics("test"), Health())
    listener = socket.create_server(("0.0.0.0", 0), backlog=4096)
    loop = Loop([Port(listener, app or Echo(), certificates)], threads=threads)
    thread = threading.Thread(target=loop.run, args=(lambda: None,))
    thread.start()
    try:
        address = ("127.0.0.1", listener.getsockname()[1])
        yield Looping(loop, address, folder / "ca.crt" if folder else None)
    finally:
        loop.drain(0)
        thread.join(20)
        assert not thread.is_alive()
        assert not loop.table.members
        assert not loop.table.held
