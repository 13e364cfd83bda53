"""The raw results of a run, as they are kept in a file."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import msgspec

from tests.cluster import build
from webhook.version import VERSION

FILE = Path(__file__).parent / "results" / "full.json"


class Sample(msgspec.Struct):
    """One round of one cell. Times are in microseconds; CPU is per review."""

    count: int
    rate: float
    cpu_us: float
    p50: int
    p99: int
    worst: int


class Cell(msgspec.Struct):
    """A row of a table at one size of body and number of connections."""

    row: str
    body: str
    clients: int
    samples: list[Sample]
    #: Of the requests of all rounds together, in microseconds; 0 where they are too few to say.
    p999: int = 0


class Creations(msgspec.Struct):
    """Pod creations through the API server: the CPU of each part is in microseconds a pod."""

    row: str
    clients: int
    samples: list[Sample]
    cpu_us: dict[str, list[float]]


class Server(msgspec.Struct):
    """What is told of a server beside its answers."""

    #: Proportional set size in MiB: before any load but one review of each size,
    pss_start: float = 0.0
    #: after a round of typical pods,
    pss_typical: float = 0.0
    #: and after all of it, pods of 1 MiB on 32 connections among it.
    pss: float = 0.0
    #: CPU while nobody asks, in thousandths of a core.
    idle: float = 0.0


class Growth(msgspec.Struct):
    """How the cost of a review grows with something: pairs of how much, and microseconds."""

    what: str
    points: list[tuple[int, float]]


class InProcess(msgspec.Struct):
    """What a review costs within the process, in microseconds of CPU."""

    #: By webhook, by step; the steps of one add up to its "total", but for rounding.
    steps: dict[str, dict[str, float]] = {}
    growth: list[Growth] = []


class Results(msgspec.Struct):
    """A whole run."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    seconds: float
    #: Size of each review, in bytes, by pod and by stage.
    sizes: dict[str, dict[str, int]]
    cells: list[Cell] = []
    servers: dict[str, Server] = {}
    creations: list[Creations] = []
    inprocess: InProcess = msgspec.field(default_factory=InProcess)
    #: From the start of the command to the first answer of /readyz, in milliseconds.
    ready_ms: list[float] = []

    def cell(self, row: str, body: str, clients: int) -> Cell | None:
        """The cell of a table, None where it was not measured."""
        wanted = (row, body, clients)
        return next((c for c in self.cells if (c.row, c.body, c.clients) == wanted), None)

    def creation(self, row: str, clients: int) -> Creations | None:
        """The same for the table of creations."""
        return next((c for c in self.creations if (c.row, c.clients) == (row, clients)), None)


def read(file: Path = FILE) -> Results:
    """The results in a file."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(results: Results, file: Path) -> None:
    """Keep results in a file, in a form that is good to compare."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def machine() -> dict[str, str]:
    """What the figures depend on, and nothing that names the machine."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "CPU": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": re.sub(r"^(\d+\.\d+).*", r"\1", platform.release()),
    }


def versions() -> dict[str, str]:
    """The versions of everything that takes part."""
    packages = ("gunicorn", "gunicorn_h1c", "httptools", "msgspec", "flask")
    python = {name: importlib.metadata.version(name) for name in packages}
    return {
        "mendix-mesh": VERSION,
        "Python": platform.python_version(),
        **python,
        "Kubernetes and Pod Security": ".".join(map(str, build.ALL["kube-apiserver"].version)),
        "istiod": _istio(),
        "nginx": _said(["nginx", "-v"], r"nginx/(\S+)"),
        "h2load": _said(["h2load", "--version"], r"nghttp2/(\S+)"),
    }


def _istio() -> str:
    from tests.cluster.istiod import TAG  # noqa: PLC0415 - the module needs a cluster's parts

    return TAG


def _said(command: list[str], pattern: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "?"
