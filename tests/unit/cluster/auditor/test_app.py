"""The auditor's probes: alive at once, ready once it has seen something, and then for good."""

import datetime

from webhook.cluster.audit import summed
from webhook.cluster.auditor.app import create_app
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.metrics import AuditorMetrics
from webhook.version import VERSION


def test_it_is_ready_from_the_first_scan_on_whatever_fails_later() -> None:
    scans = Scans()
    client = create_app(scans, AuditorMetrics(scans)).test_client()
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    scans.failed("etcd is gone")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "no scan has ended yet: etcd is gone\n")
    scans.scanned(
        Snapshot(at=datetime.datetime.now(datetime.UTC), seconds=1, report=summed([], []))
    )
    assert client.get("/readyz").status_code == 200
    scans.failed("etcd is gone")
    assert client.get("/readyz").status_code == 200


def test_metrics_can_be_left_to_another_port() -> None:
    scans = Scans()
    client = create_app(scans, AuditorMetrics(scans), scrapers="none").test_client()
    answer = client.get("/metrics")
    assert answer.status_code == 403
    assert answer.text == ("403 Forbidden: the metrics are only served by HTTPS, with a token\n")
    assert client.get("/livez").status_code == 200


def test_metrics_and_version() -> None:
    scans = Scans()
    client = create_app(scans, AuditorMetrics(scans)).test_client()
    assert "mendix_mesh_scans_total" in client.get("/metrics").text
    assert client.get("/version").json == {"name": "mendix-mesh", "version": VERSION}
