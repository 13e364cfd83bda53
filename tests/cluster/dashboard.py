"""Runs `mendix-mesh dashboard` as a separate process, on a free port of the loopback device.

It also contains a login proxy that can be placed in front of it.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.cluster.api import wait_for
from tests.cluster.process import Process
from tests.servers import Handler, listening

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
            wait_for(lambda: "in the mesh" in httpx.get(url, timeout=60).text, why="a first look")
        yield url
        process.check()
        assert "Traceback" not in log.read_text(), process.tail()
    finally:
        process.stop()


class Gate:
    """The proxy's URL, and whether its user has a login."""

    url = ""
    is_open = False


@contextmanager
def gate(behind: str) -> Iterator[Gate]:
    """Run a proxy that redirects users without a login to another server, as oauth2-proxy does.

    That server logs in everyone immediately, and redirects them back.
    """
    made = Gate()

    class Login(Handler):
        def answer(self) -> None:
            made.is_open = True
            self.reply(302, b"", {"Location": made.url + self.path})

    class Proxy(Handler):
        def answer(self) -> None:
            # Browsers may request icons at any time. These requests must not affect the test.
            if not made.is_open and not self.path.startswith("/static/"):
                self.reply(302, b"", {"Location": login + self.path})
                return
            page = httpx.get(behind.rstrip("/") + self.path)
            kept = ("Content-Type", "Content-Security-Policy", "Cache-Control")
            headers = {name: page.headers[name] for name in kept if name in page.headers}
            self.reply(page.status_code, page.content, headers)

    with listening(Login) as login, listening(Proxy) as made.url:
        yield made
