"""The raw results of a run, as they are stored in a file."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import msgspec

from tests.cluster import build, istiod
from webhook.version import VERSION

FILE = Path(__file__).parent / "results" / "full.json"
#: The body of the cells of pods that are created through the API server.
CREATION = "creation"


class Sample(msgspec.Struct):
    """One round of one cell. Latencies are in microseconds, CPU is in microseconds a request."""

    rate: float
    cpu_us: float
    p50: int
    p99: int


class Cell(msgspec.Struct, omit_defaults=True):
    """A row of a table at one size of body and one number of connections."""

    row: str
    body: str
    clients: int
    samples: list[Sample] = []
    #: For creations: the CPU of each part of the cluster, for each round.
    parts: dict[str, list[float]] = {}


class Results(msgspec.Struct):
    """A whole run."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    seconds: float
    cells: list[Cell] = []
    #: Proportional set size of each server after all load, in MiB.
    pss: dict[str, float] = {}
    #: Milliseconds from the start of the command to the first answer of /readyz.
    ready_ms: list[float] = []

    def cell(self, row: str, body: str, clients: int) -> Cell | None:
        """Return a cell; None if it was not measured."""
        wanted = (row, body, clients)
        return next((c for c in self.cells if (c.row, c.body, c.clients) == wanted), None)

    def add(self, cell: Cell) -> None:
        """Add the samples of a cell to those that were measured before."""
        known = self.cell(cell.row, cell.body, cell.clients)
        if known is None:
            self.cells.append(cell)
            return
        known.samples += cell.samples
        for name, values in cell.parts.items():
            known.parts[name] += values


def read(file: Path = FILE) -> Results:
    """Return the results in a file."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(results: Results, file: Path) -> None:
    """Store results in a file, one cell a line."""
    file.write_bytes(msgspec.json.encode(results).replace(b'{"row"', b'\n{"row"') + b"\n")


def machine() -> dict[str, str]:
    """Return what the figures depend on, and nothing that names the machine."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "CPU": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": re.sub(r"^(\d+\.\d+).*", r"\1", platform.release()),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    packages = ("gunicorn", "httptools", "msgspec", "flask")
    return {
        "mendix-mesh": VERSION,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "Kubernetes and Pod Security": ".".join(map(str, build.ALL["kube-apiserver"].version)),
        "istiod": istiod.TAG,
        "nginx": _version("nginx", "-v"),
        "h2load": _version("h2load", "--version"),
    }


def _version(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"/(\d\S*)", done.stdout + done.stderr)
    return found[1] if found else "?"
