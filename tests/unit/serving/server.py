"""The real server in its own process."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.process import Process
from tests.unit.serving.clients import ServerClient
from webhook.serving import trial

#: Seconds within which the server starts, and ends.
PATIENCE = 20.0
PROGRAM = (sys.executable, "-m", "webhook")


class Server:
    """`mendix-mesh serve`, started with any arguments on a free port of the loopback device."""

    def __init__(
        self,
        log: Path,
        *arguments: str | Path,
        program: Sequence[str | Path] = PROGRAM,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        command = [*program, "serve", "--listen", "127.0.0.1:0", "--drain-seconds", "0"]
        environment = {**environment, "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
        self.process = Process("mendix-mesh", [*command, *arguments], log=log, env=environment)
        self.port = int(self.wait_for(r"Listening at: https://127\.0\.0\.1:(\d+)"))
        self.wait_for(r"Started server process \[(\d+)\]")

    @property
    def text(self) -> str:
        """Its output on both streams."""
        return self.process.log.read_text()

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that it has started, dead or alive."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.text)]

    def logged(self) -> list[dict[str, object]]:
        """Return its log; fails on a line that is not a JSON object."""
        return [json.loads(line) for line in self.text.splitlines()]

    def wait_for(self, pattern: str) -> str:
        """Wait for a pattern in its output. Return the match, or its group."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            # It may have written this, and ended, after it was read.
            if self.process.returncode is not None and not re.search(pattern, self.text):
                self.process.check()
            assert time.monotonic() < end, f"no {pattern} in {self.text}"
            time.sleep(0.02)
        return found.group(found.lastindex or 0)

    def stop(self) -> int:
        """Send SIGTERM, and return its exit code."""
        self.process.stop(PATIENCE)
        assert self.process.returncode is not None
        return self.process.returncode


class Files:
    """A certificate for localhost in a folder."""

    def __init__(self, folder: Path, *names: str) -> None:
        pair = trial.throw_away([*(names or ("localhost", "127.0.0.1"))])
        self.ca, self.cert, self.key = (folder / n for n in ("ca.crt", "tls.crt", "tls.key"))
        self.ca.write_bytes(pair.ca)
        self.cert.write_bytes(pair.cert)
        self.key.write_bytes(pair.key)

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        """Return the arguments with which the server uses it."""
        return ("--tls-cert-file", self.cert, "--tls-private-key-file", self.key)


@contextmanager
def running(folder: Path, *arguments: str | Path) -> Iterator[tuple[Server, ServerClient]]:
    """Run a server with a certificate for localhost, and a client that trusts it."""
    files = Files(folder)
    server = Server(folder / "server.log", *files.arguments, *arguments)
    try:
        yield server, ServerClient(server.port, files.ca.read_text())
    finally:
        server.stop()
