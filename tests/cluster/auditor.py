"""Runs `mendix-mesh audit --watch` as a separate process, on free ports of the loopback device."""

import base64
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.chart import helm
from tests.cluster import command
from tests.cluster.api import Api, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.mesh import MESH_LABEL
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process
from tests.cluster.workloads import pod

#: The maximum seconds for its start, for noticing a change, and for its end.
PATIENCE = 30.0


class Auditor:
    """The process and its addresses."""

    def __init__(self, process: Process, *, tls_too: bool) -> None:
        self.process = process
        self.http = self._listens("http")
        self.https = self._listens("https") if tls_too else ""

    @property
    def logged(self) -> list[dict[str, Any]]:
        """Return its log without the command's warnings. Fail on a line that is not JSON."""
        lines = self.process.log.read_text().splitlines()
        return [json.loads(line) for line in lines if not line.startswith("Warning: ")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        return [line for line in self.logged if line["event"] == name]

    def until(self, path: str, status: int = 200, *, patience: float = PATIENCE) -> str:
        """Wait until a path has this status, and return the body."""
        end = time.monotonic() + patience
        while (answer := httpx.get(f"{self.http}{path}")).status_code != status:
            assert time.monotonic() < end, answer.text
            time.sleep(0.05)
        return answer.text

    def samples(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples of a metric with these labels; see the function `samples`."""
        return samples(httpx.get(f"{self.http}/metrics").text, name, **labels)

    def _listens(self, scheme: str) -> str:
        pattern = rf"\"address\": \"({scheme}://[^\"]+)\""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.process.log.read_text())):
            self.process.check()
            assert time.monotonic() < end, self.process.tail()
            time.sleep(0.05)
        return found[1]


def samples(metrics: str, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric with these labels, by the values of their other labels.

    The other labels are sorted by name.
    """
    return {
        tuple(
            value for key, value in sorted(sample.labels.items()) if key not in labels
        ): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


@contextmanager
def running(kubeconfig: Path, log: Path, *arguments: str | Path) -> Iterator[Auditor]:
    """Run the auditor until the block ends."""
    program = [sys.executable, "-m", "webhook", "audit", "--watch"]
    where: list[str | Path] = ["--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
    process = Process("auditor", [*program, *where, *arguments], log=log, env=environment)
    try:
        yield Auditor(process, tls_too="--tls-listen" in arguments)
    finally:
        process.stop(grace=PATIENCE)


@contextmanager
def called(plane: ControlPlane, folder: Path, *, limited: bool = True) -> Iterator[Auditor]:
    """Run the auditor with the chart's rights. The chart's webhook configuration calls it.

    `limited` means that a network policy lets only the API server call.
    """
    kubeconfig = command.as_account(plane, name="mendix-mesh-watcher").kubeconfig
    authority = Authority("auditor")
    cert, key = authority.issue("auditor", hosts=["127.0.0.1"]).write(folder, "tls")
    files: list[str | Path] = ["--tls-cert-file", cert, "--tls-private-key-file", key]
    rendered = helm.render(
        {"tls": {"source": "secret", "caBundle": helm.CA},
         "auditor": {"tlsSecretName": "mendix-mesh-auditor-tls"}}
    )  # fmt: skip
    configuration = rendered.one("ValidatingWebhookConfiguration", auditor=True)
    (webhook,) = configuration["webhooks"]
    listen = ["--tls-listen", "127.0.0.1:0", "--interval", "3600"]
    listen += ["--callers-limited"] if limited else []
    with running(kubeconfig, folder / "log", *listen, *files) as process:
        webhook["clientConfig"] = {
            "url": f"{process.https}/labelled",
            "caBundle": base64.b64encode(authority.pem).decode(),
        }
        plane.api.create(configuration)
        probe = plane.new_namespace()
        plane.api.create(pod(probe))
        try:
            wait_for(
                lambda: _is_configured(plane.api, probe), why="the API server to ask the auditor"
            )
            yield process
        finally:
            plane.api.delete("ValidatingWebhookConfiguration", "mendix-mesh-auditor")


def _is_configured(api: Api, where: str) -> bool:
    labels = {"metadata": {"labels": {MESH_LABEL: "linkerd"}}}
    api.patch("Namespace", where, None, labels, dry_run=True)
    return any("outside the" in text for text in api.warnings)
