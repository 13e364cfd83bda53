"""An API server that answers by script: what a real one can't be made to say at will."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from webhook.cluster.connection import Cluster


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """What to answer. `cut` closes the connection after so many bytes of the body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    cut: int | None = None


Script = Callable[[Asked], Reply]


class ScriptedServer:
    """What has been asked, and a cluster that asks it."""

    def __init__(self, url: str, kubeconfig: Path) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.kubeconfig = write_kubeconfig(kubeconfig, url)
        self.cluster = Cluster.connect(str(self.kubeconfig))

    @property
    def targets(self) -> list[str]:
        return [asked.target for asked in self.asked]


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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: else each answer waits for an acknowledgement

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            server.asked.append(asked)
            try:
                reply = script(asked)
            except Exception as error:  # handed over to the test's thread
                failures.append(error)
                reply = Reply(400)
            body = (
                reply.body
                if isinstance(reply.body, bytes)
                else json.dumps(reply.body or {}).encode()
            )
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    failures: list[Exception] = []
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = ScriptedServer(f"http://127.0.0.1:{http.server_address[1]}", folder / "kubeconfig")
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
    if failures:
        raise failures[0]


def status(code: int, reason: str, message: str, **more: Any) -> Reply:
    """A refusal as the API server words it."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": message, **more}  # fmt: skip
    return Reply(code, body)
