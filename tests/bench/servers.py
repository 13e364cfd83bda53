"""The servers that are compared: each as it is shipped, all at once, each on its own port."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import httpx

from tests.bench import pods
from tests.cluster import build, netns
from tests.cluster.api import wait_for
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process
from webhook.serving import trial

_ROOT = Path(__file__).parents[2]
#: As the API server writes it: the webhook's timeoutSeconds.
_QUERY = "?timeout=10s"
_STARTS = 5

OURS, OURS_MUTATE = "mendix-mesh validate", "mendix-mesh mutate"
POD_SECURITY, ISTIOD, NGINX, TEXTBOOK = "pod-security", "istiod", "nginx", "textbook"
#: The rows of the table of reviews, and their names.
NAMES = {
    OURS: "mendix-mesh, validate",
    OURS_MUTATE: "mendix-mesh, mutate",
    POD_SECURITY: "Pod Security's webhook (Go), validate",
    ISTIOD: "istiod's /inject (Go), mutate",
    NGINX: "nginx, a static answer",
    TEXTBOOK: "Flask in gthread, the textbook",
}


class Row(NamedTuple):
    """A row of the table, whose server runs."""

    key: str
    url: str
    pid: int
    body: Literal["stored", "plain", "opted_in"] = "stored"


@contextlib.contextmanager
def running(plane: ControlPlane, istiod: Istiod, home: Path) -> Iterator[list[Row]]:
    """Start the servers, and yield the rows once each server has answered correctly."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": pods.NAMESPACE, "labels": labels}
    plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    pair = trial.throw_away(["localhost", "127.0.0.1"])
    (home / "tls.crt").write_bytes(pair.cert)
    (home / "tls.key").write_bytes(pair.key)
    ports = netns.free_ports(4)
    urls = [f"https://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as stack:

        def start(name: str, *command: str | Path) -> int:
            process = _process(home, name, *command)
            stack.callback(process.stop)
            return process.pid

        pid = start(OURS, *_ours(home, ports[0]))
        rows = [
            Row(OURS, f"{urls[0]}/validate/linkerd/enforce{_QUERY}", pid),
            Row(OURS_MUTATE, f"{urls[0]}/mutate/linkerd{_QUERY}", pid, "plain"),
        ]
        size = len(answer(rows[0], "typical"))
        pid = start(POD_SECURITY, *_pod_security(home, plane, ports[1]))
        rows.append(Row(POD_SECURITY, f"{urls[1]}/{_QUERY}", pid))
        rows.append(Row(ISTIOD, istiod.url + _QUERY, istiod.pid, "opted_in"))
        rows.append(Row(NGINX, f"{urls[2]}/", start(NGINX, *_nginx(home, ports[2], size))))
        pid = start(TEXTBOOK, *_textbook(home, ports[3]))
        rows.append(Row(TEXTBOOK, f"{urls[3]}/validate{_QUERY}", pid))
        for row in rows:
            for each in pods.SIZES:
                answer(row, each)
        yield rows


def ready_ms(home: Path) -> list[float]:
    """Start mendix-mesh several times. Return the milliseconds until /readyz first answers."""
    found = []
    for port in netns.free_ports(_STARTS):
        started = time.perf_counter()
        process = _process(home, "ready", *_ours(home, port))
        while _ask("GET", f"https://127.0.0.1:{port}/readyz", b"") is None:
            process.check()
            time.sleep(0.005)
        found.append(round((time.perf_counter() - started) * 1000, 1))
        process.stop()
    return found


def answer(row: Row, size: str) -> bytes:
    """Return the answer of a row's server to a review. Wait until it admits the pod."""
    body = getattr(pods.bodies(size), row.body)

    def correct() -> bytes | None:
        found = _ask("POST", row.url, body)
        response = json.loads(found or b"{}").get("response") or {}
        is_admitted = (response.get("uid"), response.get("allowed")) == (pods.UID, True)
        is_patched = bool(response.get("patch"))
        return found if is_admitted and is_patched == (row.body != "stored") else None

    return wait_for(correct, seconds=60, why=f"{NAMES[row.key]} to admit the {size} pod")


def _ask(method: str, url: str, body: bytes) -> bytes | None:
    """Return the answer; None if the server does not answer with success."""
    headers = {"content-type": "application/json"}
    # Each server has its own certificate. The port decides who answers.
    with httpx.Client(verify=False, trust_env=False, timeout=30) as client:
        try:
            reply = client.request(method, url, content=body, headers=headers)
        except httpx.TransportError:
            return None
        return reply.content if reply.is_success else None


def _process(home: Path, name: str, *command: str | Path) -> Process:
    log = home / f"{name.replace(' ', '-')}.log"
    return Process(name, command, log=log, cwd=_ROOT, death_signal=signal.SIGTERM)


def _ours(home: Path, port: int) -> list[str | Path]:
    files = [f"--tls-cert-file={home / 'tls.crt'}", f"--tls-private-key-file={home / 'tls.key'}"]
    return [sys.executable, "-m", "webhook", "serve", *files, f"--listen=127.0.0.1:{port}"]


def _textbook(home: Path, port: int) -> list[str | Path]:
    return [
        sys.executable, "-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--keep-alive=120",
        "--no-control-socket", f"--certfile={home / 'tls.crt'}", f"--keyfile={home / 'tls.key'}",
        "--worker-class=gthread", "--threads=4", "tests.bench.baseline:app",
    ]  # fmt: skip


def _pod_security(home: Path, plane: ControlPlane, port: int) -> list[str | Path]:
    group = "pod-security.admission.config.k8s.io/v1"
    config = home / "pod-security.json"
    config.write_text(json.dumps({"apiVersion": group, "kind": "PodSecurityConfiguration"}))
    return [
        plane.binaries[build.POD_SECURITY], f"--kubeconfig={plane.kubeconfig}",
        f"--config={config}", "--bind-address=127.0.0.1", f"--secure-port={port}",
        f"--tls-cert-file={home / 'tls.crt'}", f"--tls-private-key-file={home / 'tls.key'}",
    ]  # fmt: skip


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


def _nginx(home: Path, port: int, size: int) -> list[str | Path]:
    """Return the command of the lower bound: it admits each pod, with an answer of `size` bytes."""
    response = {"uid": pods.UID, "allowed": True, "padding": ""}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    response["padding"] = "x" * (size - len(json.dumps(review)))
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, port=port, answer=json.dumps(review)))
    return ["nginx", "-c", config, "-p", home]
