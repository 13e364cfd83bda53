"""`audit` with the real istiod: its sidecars, its revisions, and the version that it reports."""

import pytest

from tests.cluster import command
from tests.cluster.command import Command
from tests.cluster.istio import IstioCluster
from tests.cluster.istiod import TAG
from tests.cluster.test_audit import only, states
from tests.cluster.workloads import ready_pods, workload


@pytest.fixture(scope="module")
def auditor(istio_cluster: IstioCluster) -> Command:
    return command.as_account(istio_cluster.plane)


def test_a_pod_that_istiod_injected_is_meshed_and_of_today(
    istio_cluster: IstioCluster, auditor: Command
) -> None:
    namespace = istio_cluster.enroll()
    istio_cluster.api.create(workload("Deployment", namespace, replicas=2))
    ready_pods(istio_cluster.api, namespace, count=2)
    done = auditor("audit", "-n", namespace, "-o", "json")
    report = done.data
    assert states(report) == {"Deployment/shop": "meshed"}
    assert only(report)["coverage"] == 100
    assert "proxy-outdated" not in report["checks"]
    assert done.err == ""


def test_an_injector_of_another_version_is_reported(
    istio_cluster: IstioCluster, auditor: Command
) -> None:
    namespace = istio_cluster.enroll()
    istio_cluster.api.create(workload("Deployment", namespace))
    ready_pods(istio_cluster.api, namespace)
    name, where = "istio-sidecar-injector", "istio-system"
    stored = istio_cluster.api.get("ConfigMap", name, where)["data"]["values"]
    newer = stored.replace(f'"tag": "{TAG}"', '"tag": "1.99.0"')
    assert newer != stored
    istio_cluster.api.patch("ConfigMap", name, where, {"data": {"values": newer}})
    try:
        report = auditor.audit("-n", namespace, codes=[0])
    finally:
        istio_cluster.api.patch("ConfigMap", name, where, {"data": {"values": stored}})
    reasons = [finding["reason"] for row in only(report)["workloads"]
               for finding in row["findings"] if finding["check"] == "proxy-outdated"]  # fmt: skip
    assert len(reasons) == 1
    assert reasons[0].endswith(f"({TAG}, current: 1.99.0)")
