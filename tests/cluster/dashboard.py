"""Runs `mendix-mesh dashboard` as a separate process, on a free port of the loopback device.

It also contains a login proxy that can be placed in front of it.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx

from tests.cluster.api import wait_for
from tests.cluster.process import Process

_PATIENCE = 30.0


@contextmanager
def running(kubeconfig: Path, log: Path, *arguments: str, waits: bool = True) -> Iterator[str]:
    """Run it until the block ends. Yield its URL after its first scan of the cluster."""
    program = [sys.executable, "-m", "webhook", "dashboard", "--no-open"]
    where: list[str | Path] = ["--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = Process("dashboard", [*program, *where, *arguments], log=log, env=environment)
    try:
        end = time.monotonic() + _PATIENCE
        while not (found := re.search(r"http://\S+", log.read_text())):
            process.check()
            assert time.monotonic() < end, process.tail()
            time.sleep(0.05)
        url = found[0]
        if waits:
            wait_for(
                lambda: "in the mesh" in httpx.get(url).text, seconds=_PATIENCE, why="a first look"
            )
        yield url
        process.check()
        assert "Traceback" not in log.read_text(), process.tail()
    finally:
        process.stop()


class Gate:
    """A proxy that redirects users without a login to another server, as oauth2-proxy does.

    That server logs in everyone immediately, and redirects them back.
    """

    def __init__(self, behind: str) -> None:
        self.is_open = False
        gate = self

        class Login(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gate.is_open = True
                _answer(self, 302, {"Location": gate.url + self.path.removeprefix("/")})

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        class Proxy(Login):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                # Browsers may request icons at any time. These requests must not affect the test.
                if not gate.is_open and not path.startswith("static/"):
                    _answer(self, 302, {"Location": _url(gate._login) + path})
                    return
                page = httpx.get(behind + path)
                kept = ("Content-Type", "Content-Security-Policy", "Cache-Control")
                headers = {name: page.headers[name] for name in kept if name in page.headers}
                _answer(self, page.status_code, headers, page.content)

        self._login, self._proxy = (
            ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (Login, Proxy)
        )
        self.url = _url(self._proxy)

    def __enter__(self) -> "Gate":
        for server in (self._login, self._proxy):
            Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._login, self._proxy):
            server.shutdown()
            server.server_close()


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/"


def _answer(
    handler: BaseHTTPRequestHandler, code: int, headers: Mapping[str, str], body: bytes = b""
) -> None:
    handler.send_response(code)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
