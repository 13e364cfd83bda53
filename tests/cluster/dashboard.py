"""`mendix-mesh dashboard` as a process of its own, on a free port of the loopback device."""

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

_PATIENCE = 30.0


@contextmanager
def running(kubeconfig: Path, log: Path, *arguments: str, waits: bool = True) -> Iterator[str]:
    """Run it until the block ends; gives its URL, once it has looked at the cluster."""
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
