"""A replica of the admission server, and the operations that tests need."""

import os
import re
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.certificates import Authority
from tests.faults.client import Load, Tally
from tests.faults.files import Files, Mounted
from tests.unit.serving.clients import ServerClient
from tests.unit.serving.server import PROGRAM, Server

#: The maximum seconds of every wait.
PATIENCE = 20.0
HOSTS = ("localhost", "127.0.0.1")


class Replica:
    """A server whose certificate is signed by an authority of the test."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *arguments: str | Path,
        files: type[Files] = Mounted,
        program: Sequence[str | Path] = PROGRAM,
    ) -> None:
        """`program` starts `mendix-mesh` with the arguments that follow it."""
        folder.mkdir()
        #: A pattern of allowed complaints in its log; by default none.
        self.allowed = r"(?!)"
        self.files = files(folder / "tls", authority.issue("mendix-mesh", hosts=HOSTS))
        self.server = Server(
            folder / "server.log", *self.files.arguments, *arguments, program=program
        )
        self.port = self.server.port
        self.client = ServerClient(self.port, authority.pem.decode())

    @property
    def worker(self) -> int:
        """The process that answers reviews."""
        return self.server.workers[-1]

    def load(self, *others: "Replica", **options: Any) -> Load:
        """Steady load on this replica, and on others behind the same Service."""
        ports = (self.port, *(other.port for other in others))
        return Load(self.client.ca, *ports, **options)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value; 0 if it has none yet."""
        wanted = ",".join(f'{label}="{value}"' for label, value in labels.items())
        line = re.escape(f"{name}{{{wanted}}} " if labels else f"{name} ")
        found = re.search(rf"^{line}(\S+)$", self.client.get("/metrics").body.decode(), re.M)
        return float(found[1]) if found else 0.0

    def complaints(self) -> list[str]:
        """Return its log above level info, each entry shortened."""
        entries = (e for e in self.server.logged() if e["level"] not in ("debug", "info"))
        return [str(entry.get("exception") or entry)[-500:] for entry in entries]

    def resident(self) -> int:
        """Return the memory of the worker, in KiB."""
        return resident(self.worker)

    def kill_worker(self) -> float:
        """Kill the worker by SIGKILL; returns when it was gone, by `time.monotonic`."""
        worker = self.worker
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not _lives(worker), "the killed worker to be gone")
        return time.monotonic()

    def reload(self) -> None:
        """Send SIGHUP. Wait until the new worker serves and the old one is gone."""
        old = self.worker
        os.kill(self.server.process.pid, signal.SIGHUP)
        wait_for(lambda: self.worker != old and not _lives(old), "a new worker, the old one gone")

    def limit(self, what: int, value: int) -> None:
        """Limit a resource of the worker, as prlimit(1) does; a new worker is not limited."""
        _, most = resource.prlimit(self.worker, what)
        resource.prlimit(self.worker, what, (value, most))

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        return self.server.stop()


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


#: The fixture `start`: starts a replica with any arguments.
Start = Callable[..., Replica]
#: The fixture `show`: prints a tally and remarks.
Show = Callable[..., None]


def resident(pid: int) -> int:
    """Return the memory of a process, in KiB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def assert_all_answered(tally: Tally) -> None:
    """Assert that every review sent was answered, and rightly."""
    assert not tally.lost, str(tally)
    assert not tally.wrong, str(tally)
    assert not tally.shed, str(tally)


def wait_for(what: Callable[[], object], why: str, *, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"waited in vain: {why}"
        time.sleep(0.002)
