"""An API server with scripted answers, for those that a real one does not give on request."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.servers import Handler, listening
from webhook.cluster.api.connection import Cluster


class HttpRequest(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """An answer. `cut` closes the connection after this many bytes of the body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None


Script = Callable[[HttpRequest], Reply]


class ScriptedServer:
    """The requests so far, and a cluster that sends them."""

    def __init__(self, url: str, kubeconfig: Path) -> None:
        self.url = url
        self.requests: list[HttpRequest] = []
        self.kubeconfig = write_kubeconfig(kubeconfig, url)
        self.cluster = Cluster.connect(str(self.kubeconfig))

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


def write_kubeconfig(file: Path, url: str, **user: str) -> Path:
    """Write a kubeconfig for a server, and return its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "scripted", "cluster": {"server": url}}],
        "users": [{"name": "someone", "user": {"token": "secret", **user}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "scripted", "user": "someone"}},
            {"name": "there", "context": {"cluster": "scripted", "user": "someone",
                                          "namespace": "mendix"}},
        ],
        "current-context": "here",
    }  # fmt: skip
    file.write_text(json.dumps(content))
    return file


@contextmanager
def serving(script: Script, folder: Path) -> Iterator[ScriptedServer]:
    """Serve by a script, until the block ends."""

    class Scripted(Handler):
        def answer(self) -> None:
            request = HttpRequest(self.command, self.path, dict(self.headers), self.body())
            server.requests.append(request)
            try:
                reply = script(request)
            except Exception as error:  # handed over to the test's thread
                failures.append(error)
                reply = Reply(400)
            body = (
                reply.body
                if isinstance(reply.body, bytes)
                else json.dumps(reply.body or {}).encode()
            )
            self.reply(reply.status, body, reply.headers, reply.cut)

    failures: list[Exception] = []
    with listening(Scripted) as url:
        server = ScriptedServer(url, folder / "kubeconfig")
        yield server
    if failures:
        raise failures[0]


def status(code: int, reason: str, message: str, **more: Any) -> Reply:
    """Return an error status as the API server writes it."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": message, **more}  # fmt: skip
    return Reply(code, body)
