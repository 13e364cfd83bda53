"""A proxy before the real API server that makes trouble: over TLS, with the client's own rights."""

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
    """What happens to a request instead of its answer, or with it."""

    #: An answer of the proxy's own; 0 passes the API server's on.
    status: int = 0
    body: bytes = b""
    retry_after: str = ""
    #: Bytes of the answer after which the connection is cut.
    cut: int | None = None
    #: Another path to ask the API server for.
    path: str = ""


Plan = Callable[[str, str], Trouble | None]


class FaultyServer:
    """Where it listens, whom to trust, what was asked and answered so far.

    Set `plan` to make trouble. It is called with the method and the path with its query, and says
    what is to happen.
    """

    def __init__(self, url: str, ca: bytes) -> None:
        self.url = url
        self.ca = ca
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.troubles = 0
        self.plan: Plan = lambda _method, _path: None


@contextmanager
def in_front_of(plane: ControlPlane) -> Iterator[FaultyServer]:
    """Serve until the block ends."""
    authority = Authority("faulty proxy")
    folder = plane.workdir / "faulty"
    folder.mkdir(exist_ok=True)
    cert, key = authority.issue("faulty", hosts=["127.0.0.1"]).write(folder, "serving")
    trusted = ssl.create_default_context(cafile=str(plane.workdir / "ca.crt"))
    upstream = httpx.Client(base_url=plane.server, verify=trusted, timeout=60, trust_env=False)

    class Faulty(Handler):
        def answer(self) -> None:
            body = self.body()
            server.asked.append(f"{self.command} {self.path}")
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
