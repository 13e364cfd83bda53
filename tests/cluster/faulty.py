"""A proxy in front of the real API server that causes errors. It keeps the client's own rights."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from tests.cluster.certificates import Authority
from tests.cluster.plane import ControlPlane
from tests.servers import Handler, listening

_HOP = frozenset({"connection", "transfer-encoding", "content-length", "content-encoding", "date"})


class Trouble(NamedTuple):
    """An error for one request, instead of the API server's response or in addition to it."""

    #: The proxy's own response; 0 passes on the API server's.
    status: int = 0
    body: bytes = b""
    retry_after: str = ""
    #: The number of bytes of the response after which the connection is closed.
    cut: int | None = None
    #: Another path to request from the API server.
    path: str = ""


Plan = Callable[[str, str], Trouble | None]


class FaultyServer:
    """The proxy's address and CA, and the requests and responses so far.

    Set `plan` to cause errors. It is called with the method and the path with its query, and
    returns what must happen.
    """

    def __init__(self, url: str, ca: bytes) -> None:
        self.url = url
        self.ca = ca
        self.called: list[str] = []
        self.statuses: list[int] = []
        self.troubles = 0
        self.plan: Plan = lambda _method, _path: None


@contextmanager
def in_front_of(plane: ControlPlane) -> Iterator[FaultyServer]:
    """Run the proxy until the block ends."""
    authority = Authority("faulty proxy")
    folder = plane.workdir / "faulty"
    folder.mkdir(exist_ok=True)
    cert, key = authority.issue("faulty", hosts=["127.0.0.1"]).write(folder, "serving")
    trusted = ssl.create_default_context(cafile=str(plane.workdir / "ca.crt"))
    upstream = httpx.Client(base_url=plane.server, verify=trusted, timeout=60, trust_env=False)

    class Faulty(Handler):
        def answer(self) -> None:
            body = self.body()
            server.called.append(f"{self.command} {self.path}")
            trouble = server.plan(self.command, self.path) or Trouble()
            server.troubles += trouble != Trouble()
            if trouble.status:
                status, headers, content = trouble.status, {}, trouble.body
                if trouble.retry_after:
                    headers["Retry-After"] = trouble.retry_after
            else:
                wanted = {k: v for k, v in self.headers.items() if k.lower() not in {*_HOP, "host"}}
                got = upstream.request(
                    self.command, trouble.path or self.path, content=body, headers=wanted
                )
                headers = {k: v for k, v in got.headers.items() if k.lower() not in _HOP}
                status, content = got.status_code, got.content
            server.statuses.append(status)
            self.reply(status, content, headers, trouble.cut)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with upstream, listening(Faulty, context) as url:
        server = FaultyServer(url, authority.pem)
        yield server
