"""The servers that are compared: each as it is shipped, all at once, each on a port of its own."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx

from tests.bench import pods
from tests.bench.load import LoadError
from tests.cluster import build, netns
from tests.cluster.api import wait_for
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process
from webhook.serving import tls

ROOT = Path(__file__).parents[2]
#: As the API server writes it: the webhook's timeoutSeconds.
_QUERY = "?timeout=10s"

OURS, OURS_MUTATE = "mendix-mesh validate", "mendix-mesh mutate"
POD_SECURITY, ISTIOD, NGINX, TEXTBOOK = "pod-security", "istiod", "nginx", "textbook"

NAMES = {
    OURS: "mendix-mesh, validate",
    OURS_MUTATE: "mendix-mesh, mutate",
    POD_SECURITY: "Pod Security's webhook (Go), validate",
    ISTIOD: "istiod's /inject (Go), mutate",
    NGINX: "nginx, a static answer",
    TEXTBOOK: "Flask in gthread, the textbook",
}
"""The rows of the table of reviews, and what they are called."""


class Row(NamedTuple):
    """A row of the table while its server runs. Two rows may share a server."""

    key: str
    server: str
    url: str
    pid: int
    body: Literal["stored", "plain", "opted_in"]
    patches: bool = False
    sizes: tuple[str, ...] = ("small", "typical", "large")


@contextlib.contextmanager
def running(plane: ControlPlane, istiod: Istiod, home: Path) -> Iterator[list[Row]]:
    """Start all others, and yield the rows once each server has given correct answers."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": pods.NAMESPACE, "labels": labels}
    plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    pair = tls.throw_away(["localhost", "127.0.0.1"])
    (home / "ca.crt").write_bytes(pair.ca)
    (home / "tls.crt").write_bytes(pair.cert)
    (home / "tls.key").write_bytes(pair.key)
    with contextlib.ExitStack() as stack:
        rows = _ours(stack, home)
        size = len(answer(rows[0], pods.bodies()["typical"].stored))
        rows.append(_pod_security(stack, home, plane))
        rows.append(Row(ISTIOD, ISTIOD, istiod.url + _QUERY, istiod.pid, "opted_in", True))
        rows.append(_nginx(stack, home, size))
        rows.append(_gunicorn(stack, home, TEXTBOOK, "/validate", *_GTHREAD))
        for row in rows:
            for size_name in row.sizes:
                _await_correct(row, size_name, getattr(pods.bodies()[size_name], row.body))
        yield rows


class Yes(NamedTuple):
    """The server of webhooks that say yes."""

    url: str
    pid: int


@contextlib.contextmanager
def yes(home: Path) -> Iterator[Yes]:
    """Serve tests.bench.yes, with the certificate that `running` has left in a folder."""
    with contextlib.ExitStack() as stack:
        row = _gunicorn(stack, home, "yes", "", _UVICORN, "tests.bench.yes:app")
        yield Yes(row.url.removesuffix(_QUERY), row.pid)


def ours_command(home: Path, port: int) -> list[str | Path]:
    """The command that serves mendix-mesh as it is shipped, with the certificate in a folder."""
    files = [f"--tls-cert-file={home / 'tls.crt'}", f"--tls-private-key-file={home / 'tls.key'}"]
    return [sys.executable, "-m", "webhook", "serve", *files, f"--listen=127.0.0.1:{port}"]


def answer(row: Row, body: bytes) -> bytes:
    """What a row's server answers to a review; waits for the server to come up."""

    def ask() -> bytes | None:
        try:
            # Certificates are each server's own; who answers is known by the port.
            said = httpx.post(
                row.url,
                content=body,
                headers={"content-type": "application/json"},
                verify=False,
                trust_env=False,
                timeout=30,
            )
        except httpx.TransportError:
            return None
        return said.content if said.is_success else None

    return wait_for(ask, seconds=60, why=f"{NAMES[row.key]} to answer")


def fault(row: Row, said: bytes) -> str:
    """What is wrong with an answer, empty where it is a correct one."""
    try:
        response: dict[str, Any] = {**json.loads(said)["response"]}
    except (ValueError, KeyError, TypeError):
        return "it is no review with a response"
    if response.get("uid") != pods.UID:
        return "the uid is not the request's"
    if response.get("allowed") is not True:
        return "the pod is not allowed"
    if row.patches and not (response.get("patchType") == "JSONPatch" and response.get("patch")):
        return "there is no patch"
    return ""


def _await_correct(row: Row, size: str, body: bytes) -> None:
    """Raise LoadError unless the server comes to answer correctly, once it knows its cluster."""
    said = b""

    def correct() -> bool:
        nonlocal said
        said = answer(row, body)
        return not fault(row, said)

    try:
        wait_for(correct, seconds=20, why="a correct answer")
    except TimeoutError:
        message = f"{NAMES[row.key]}, {size} pod: {fault(row, said)}: {said[:1500].decode()}"
        raise LoadError(message) from None


def _ours(stack: contextlib.ExitStack, home: Path) -> list[Row]:
    (port,) = netns.free_ports(1)
    pid = _start(stack, home, OURS, *ours_command(home, port))
    url = f"https://127.0.0.1:{port}"
    return [
        Row(OURS, OURS, f"{url}/validate/linkerd/enforce{_QUERY}", pid, "stored"),
        Row(OURS_MUTATE, OURS, f"{url}/mutate/linkerd{_QUERY}", pid, "plain", True),
    ]


_GTHREAD = ("--worker-class=gthread", "--threads=4", "tests.bench.baseline:app")
_UVICORN = "--worker-class=uvicorn_worker.UvicornWorker"


def _gunicorn(stack: contextlib.ExitStack, home: Path, key: str, path: str, *arguments: str) -> Row:
    (port,) = netns.free_ports(1)
    files = (f"--certfile={home / 'tls.crt'}", f"--keyfile={home / 'tls.key'}")
    common = (f"--bind=127.0.0.1:{port}", "--keep-alive=120", "--no-control-socket", *files)
    pid = _start(stack, home, key, sys.executable, "-m", "gunicorn", *common, *arguments)
    return Row(key, key, f"https://127.0.0.1:{port}{path}{_QUERY}", pid, "stored")


def _pod_security(stack: contextlib.ExitStack, home: Path, plane: ControlPlane) -> Row:
    (port,) = netns.free_ports(1)
    group = "pod-security.admission.config.k8s.io/v1"
    config = home / "pod-security.json"
    config.write_text(json.dumps({"apiVersion": group, "kind": "PodSecurityConfiguration"}))
    pid = _start(
        stack,
        home,
        POD_SECURITY,
        plane.binaries[build.POD_SECURITY],
        f"--kubeconfig={plane.kubeconfig}",
        f"--config={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={home / 'tls.crt'}",
        f"--tls-private-key-file={home / 'tls.key'}",
    )
    return Row(POD_SECURITY, POD_SECURITY, f"https://127.0.0.1:{port}/{_QUERY}", pid, "stored")


_NGINX = """\
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 8m; client_body_temp_path {home}/nginx-bodies;
  keepalive_timeout 120s; keepalive_requests 100000000; default_type application/json;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {home}/tls.crt; ssl_certificate_key {home}/tls.key;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""


def _nginx(stack: contextlib.ExitStack, home: Path, size: int) -> Row:
    """The floor: reads a review over TLS and says yes in as many bytes as mendix-mesh does."""
    (port,) = netns.free_ports(1)
    response = {"uid": pods.UID, "allowed": True, "padding": ""}
    response["padding"] = "x" * (size - len(json.dumps({"response": response})))
    config = home / "nginx.conf"
    yes = json.dumps({"response": response})
    config.write_text(_NGINX.format(home=home, port=port, answer=yes))
    pid = _start(stack, home, NGINX, _find_nginx(), "-c", str(config), "-p", str(home))
    return Row(NGINX, NGINX, f"https://127.0.0.1:{port}/{_QUERY}", pid, "stored")


def _find_nginx() -> str:
    # Debian keeps it where an ordinary user's PATH does not look.
    return "/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "nginx"


def _start(stack: contextlib.ExitStack, home: Path, name: str, *argv: str | Path) -> int:
    log = home / f"{name.replace(' ', '-')}.log"
    process = Process(name, argv, log=log, cwd=ROOT, death_signal=signal.SIGTERM)
    stack.callback(process.stop)
    return process.pid
