"""`make bench`: reviews a second and CPU a review, beside a textbook Flask webhook, in one run.

Rounds are interleaved and the median is shown, because a machine's speed drifts: compare inside one
table only. The client is h2load (Debian: nghttp2-client), over kept-alive TLS and HTTP/1.1 on
loopback, as the API server calls webhooks.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.standins import mendix_manifests
from tests.standins.linkerd import InjectorConfig, inject
from webhook.admission import tls

ROUNDS = 5
SECONDS = 2
CONNECTIONS = (1, 8)
_TICKS = os.sysconf("SC_CLK_TCK")


class Server(NamedTuple):
    """A row: how it is started, and which path reviews go to."""

    name: str
    command: tuple[str, ...]
    path: str


class Sample(NamedTuple):
    """One round of one server."""

    rate: float
    cpu_us: float
    mean_us: float


def main() -> None:
    """Run it and print the table; exit code 2 where h2load is missing."""
    if not shutil.which("h2load"):
        raise SystemExit("make bench needs h2load: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="mendix-mesh-bench-") as folder:
        home = Path(folder)
        pair = tls.throw_away(["localhost", "127.0.0.1"])
        (home / "tls.crt").write_bytes(pair.cert)
        (home / "tls.key").write_bytes(pair.key)
        body = home / "review.json"
        body.write_bytes(_review())
        samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        with contextlib.ExitStack() as stack:
            running = [(s, *stack.enter_context(_running(s, home))) for s in _servers(home)]
            rounds = [(r, c) for r in range(ROUNDS) for c in CONNECTIONS]
            for _, clients in track(rounds, "rounds", console=Console(stderr=True)):
                for server, pid, port in running:
                    url = f"https://127.0.0.1:{port}{server.path}"
                    samples[server.name, clients].append(_measure(url, pid, clients, body))
        _show(samples, body.stat().st_size)


def _review() -> bytes:
    """A validating review of an app's pod as the injector stored it."""
    app = mendix_manifests.app_pod("shop", "mendix", annotations={"linkerd.io/inject": "enabled"})
    pod = inject(app, None, InjectorConfig()).pod
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "bench", "kind": kind, "operation": "CREATE", "namespace": "mendix"}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps({**review, "request": {**asked, "object": pod}}).encode()


def _servers(home: Path) -> list[Server]:
    cert, key = str(home / "tls.crt"), str(home / "tls.key")
    ours = ("-m", "webhook", "serve", "--tls-cert-file", cert, "--tls-private-key-file", key)
    textbook = ("-m", "gunicorn", "--worker-class=gthread", "--threads=4", "--keep-alive=120")
    files = (f"--certfile={cert}", f"--keyfile={key}", "tests.bench.baseline:app")
    return [
        Server(
            "mendix-mesh", (*ours, "--log-level=error", "--listen"), "/validate/linkerd/enforce"
        ),
        Server(
            "Flask, gthread (textbook)", (*textbook, *files, "--log-level=error", "-b"), "/validate"
        ),
    ]


@contextlib.contextmanager
def _running(server: Server, home: Path) -> Iterator[tuple[int, int]]:
    """Start a server on a free port; gives its process id and port once it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *server.command, f"127.0.0.1:{port}"]
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def _measure(url: str, pid: int, clients: int, body: Path) -> Sample:
    before = _cpu_seconds(pid)
    command = ["h2load", "--h1", f"--clients={clients}", f"--duration={SECONDS}", "--threads=1"]
    command += [f"--data={body}", "--header=content-type: application/json", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    ok = re.search(r"status codes: (\d+) 2xx", output)
    if not ok or int(ok[1]) == 0:
        raise SystemExit(f"h2load on {url} did not do its work:\n{output}")
    count = int(ok[1])
    cpu = _cpu_seconds(pid) - before
    return Sample(count / SECONDS, cpu / count * 1e6, clients * SECONDS / count * 1e6)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, in seconds."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in [str(pid), *children]:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def _show(samples: dict[tuple[str, int], list[Sample]], size: int) -> None:
    table = Table(title=f"review of {size / 1024:.1f} KiB, TLS kept alive, {ROUNDS} rounds, median")
    for column in ("server", "c", "reviews/s", "CPU us", "mean us", "CPU, of textbook"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for (name, clients), rounds in sorted(samples.items(), key=lambda item: item[0][::-1]):
        rate, cpu, mean = (statistics.median(column) for column in zip(*rounds, strict=True))
        base = statistics.median(s.cpu_us for s in samples["Flask, gthread (textbook)", clients])
        row = (name, str(clients), f"{rate:.0f}", f"{cpu:.0f}", f"{mean:.0f}", f"{cpu / base:.2f}")
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
