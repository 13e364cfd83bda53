"""How soon a server is ready: from the start of the command to the first yes of /readyz."""

import contextlib
import ssl
import subprocess
import time
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from tests.bench import servers
from tests.cluster import netns

_TIMES = 5
_PATIENCE = 30.0


def ready_ms(home: Path) -> list[float]:
    """Start and end mendix-mesh a few times; the milliseconds that each start took, in order."""
    return [round(_once(home) * 1000, 1) for _ in range(_TIMES)]


def _once(home: Path) -> float:
    (port,) = netns.free_ports(1)
    with (home / "ready.log").open("ab") as log:
        started = time.perf_counter()
        command = servers.ours_command(home, port)
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=servers.ROOT)
    try:
        while not _is_ready(port):
            if time.perf_counter() - started > _PATIENCE or process.poll() is not None:
                raise TimeoutError("mendix-mesh serve did not become ready")
            time.sleep(0.005)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(port: int) -> bool:
    context = ssl._create_unverified_context()
    connection = HTTPSConnection("127.0.0.1", port, timeout=1, context=context)
    with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False
