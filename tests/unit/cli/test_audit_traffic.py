"""`mendix-mesh audit --prometheus`: the guide's story, from an hour of recorded metrics."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import prometheus
from tests.standins.mesh_metrics import (
    Labels,
    istio,
    linkerd_identity,
    linkerd_inbound,
    linkerd_outbound,
)
from tests.unit.cli.test_audit import good
from tests.unit.cluster.world import World, meshed, owned
from webhook.cli import main

GUIDE = (Path(__file__).parents[3] / "docs" / "traffic.md").read_text()
INGRESS = linkerd_identity("ingress-nginx", "ingress-nginx")
SHOP = linkerd_identity("mendix-apps", "shop")


def story() -> World:
    world = World()
    world.install()
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    for name, mesh in (("mendix-apps", "linkerd"), ("mendix-crm", "istio"),
                       ("mendix-new", "linkerd")):  # fmt: skip
        world.namespace(name, mesh)
    for name in ("shop-master", "shop-worker", "mendix-agent"):
        world.pod("mendix-apps", f"{name}-1", owned(meshed(), "Deployment", name))
    world.pod("mendix-crm", "crm-1", owned(meshed("istio"), "Deployment", "crm"))
    world.pod("mendix-new", "hr-1", owned(meshed(), "Deployment", "hr"))
    return world


#: Series, and how much each counts in an hour.
HOUR: tuple[tuple[str, Labels, int], ...] = (
    ("request_total", linkerd_inbound("mendix-apps", "shop-master", INGRESS), 5400),
    ("request_total", linkerd_inbound("mendix-apps", "shop-master"), 60),
    ("request_total", linkerd_outbound("reporting", "export", ("mendix-apps", "shop-master")), 48),
    ("request_total", linkerd_inbound("mendix-apps", "mendix-agent", SHOP), 120),
    ("tcp_open_total", linkerd_outbound("mendix-apps", "shop-master", ("databases", "pg")), 36),
    ("istio_requests_total",
     istio(("istio-ingress", "gateway"), ("mendix-crm", "crm"), "mutual_tls"), 900),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Server]:
    now = int(time.time())
    # Two hours, and on into the next minutes, in which the tests run.
    times = range(now - 7200, now + 600, 60)
    lines = [
        f"{metric}{{{_pairs(labels)}}} {rate * (at - now + 7200) / 3600} {at}"
        for metric, labels, rate in HOUR
        for at in times
    ]
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus.serving(folder, recorded="\n".join([*lines, "# EOF\n"])) as running:
        yield running


def _pairs(labels: Labels) -> str:
    return ",".join(f'{key}="{value}"' for key, value in labels.items())


def run(world: World, folder: Path, *arguments: str) -> Result:
    with world.serving(folder) as cluster:
        given = ["audit", "--kubeconfig", str(cluster.kubeconfig), *arguments]
        return CliRunner().invoke(main, given)


def test_the_guides_transcript_is_what_it_prints(server: prometheus.Server, tmp_path: Path) -> None:
    outcome = run(story(), tmp_path, "--prometheus", server.url)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    command = "$ mendix-mesh audit --prometheus http://localhost:9090\n"
    assert f"{command}{outcome.stdout}```" in GUIDE


def test_json_has_the_numbers_and_the_edges(server: prometheus.Server, tmp_path: Path) -> None:
    outcome = run(story(), tmp_path, "--prometheus", server.url, "-o", "json")
    report = json.loads(outcome.stdout)
    traffic = report["traffic"]
    assert (traffic["window"], traffic["notes"], traffic["error"]) == (3600, [], "")
    assert {name: one["verdict"] for name, one in traffic["namespaces"].items()} == {
        "mendix-apps": "mixed", "mendix-crm": "mtls", "mendix-new": "no-data",
    }  # fmt: skip
    apps = traffic["namespaces"]["mendix-apps"]
    shop = next(one for one in apps["workloads"] if one["workload"] == "shop-master")
    assert shop["requests"] == {"mutual": 5400, "plaintext": 60, "unknown": 0}
    assert shop["share"] == 98
    assert {(edge["seenBy"], edge["source"], edge["account"]) for edge in apps["edges"]} == {
        ("destination", "", "ingress-nginx"), ("destination", "", ""), ("destination", "", "shop"),
        ("source", "export", ""),
    }  # fmt: skip
    (found,) = findings(report, "mendix-apps", "shop-master")
    assert (found["check"], found["level"], found["pods"]) == ("plaintext-traffic", "warning", 1)
    assert found["reason"] == (
        "received traffic without mutual TLS in the last hour, from clients outside the mesh, "
        "reporting/export"
    )
    assert findings(report, "mendix-crm", "crm") == []
    assert report["checks"]["plaintext-traffic"] == 1


def findings(report: Any, namespace: str, workload: str) -> list[Any]:
    """Return the findings about the traffic of a workload."""
    return [
        finding
        for one in report["namespaces"]
        if one["name"] == namespace
        for row in one["workloads"]
        if row["name"] == workload
        for finding in row["findings"]
        if finding["check"] == "plaintext-traffic"
    ]


def test_without_prometheus_there_is_no_traffic(tmp_path: Path) -> None:
    assert "MTLS" not in run(good(), tmp_path).stdout
    assert "traffic" not in json.loads(run(good(), tmp_path, "-o", "json").stdout)


def test_a_prometheus_that_is_not_there_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    outcome = run(good(), tmp_path, "--prometheus", "http://127.0.0.1:1")
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        "Warning: the traffic could not be read from Prometheus: http://127.0.0.1:1 does not "
        "answer: "
        "[Errno 111] Connection refused\n"
    )
    title, row, *_ = outcome.stdout.splitlines()
    assert title.split()[4] == "MTLS"
    assert row.split()[4] == "?"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--prometheus", "prometheus:9090"), "the address of Prometheus is invalid"),
        (("--prometheus-token-file", "token"), "need --prometheus"),
        (("--prometheus-ca-file", "ca.crt"), "need --prometheus"),
        (("--prometheus", "http://a", "--prometheus-window", "soon"), "give a number with s, m, h"),
        (("--prometheus", "http://a", "--prometheus-window", "0h"), "give a number with s, m, h"),
        (("--prometheus", "http://a", "--prometheus-timeout", "0"), "1<=x<=300"),
        (("--prometheus", "https://a", "--prometheus-ca-file", "none.crt"), "there is no file"),
    ],
)
def test_options_that_cannot_be_used_are_rejected(
    tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    outcome = run(good(), tmp_path, *arguments)
    assert outcome.exit_code == 2
    assert error in outcome.stderr
