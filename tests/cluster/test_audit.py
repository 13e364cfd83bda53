"""`discover` and `audit` on the real API server, with the ServiceAccount of docs/rbac.yaml.

Nodes are simulated and Linkerd's injector is the stand-in. The webhook is real.
"""

import datetime
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster import command
from tests.cluster.api import Json, core, definition, wait_for
from tests.cluster.command import Command
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.workloads import pod, ready_pods, workload
from tests.standins import mendix

ENROLLED_AT = "mendix-mesh.io/enrolled-at"


@pytest.fixture(scope="module")
def auditor(mesh_cluster: MeshCluster) -> Command:
    """The command with the least rights, and those to label namespaces and to write reports."""
    return command.as_account(mesh_cluster.plane, "mendix-mesh-enroller", "mendix-mesh-reporter")


@pytest.fixture(scope="module")
def linkerd_config(mesh_cluster: MeshCluster) -> Iterator[None]:
    """Create the objects of Linkerd's chart that the audit reads, besides the injector."""
    api, config = mesh_cluster.api, mesh_cluster.injector.config
    api.ensure(core("Namespace", "linkerd"))
    data = {
        "linkerd-config": {"values": yaml.safe_dump({"linkerdVersion": config.version})},
        "linkerd-identity-trust-roots": {"ca-bundle.crt": config.trust_anchors},
    }
    for name, content in data.items():
        api.create(core("ConfigMap", name, "linkerd", data=content))
    yield
    for name in data:
        api.delete("ConfigMap", name, "linkerd")


def only(report: Json) -> Json:
    """The one namespace of a report."""
    (found,) = report["namespaces"]
    namespace: Json = found
    return namespace


def states(report: Json) -> dict[str, str]:
    return {f"{row['kind']}/{row['name']}": row["state"] for row in only(report)["workloads"]}


def findings(report: Json, level: str = "deny") -> list[tuple[str, str, str]]:
    return [
        (row["name"], finding["check"], finding["origin"])
        for row in only(report)["workloads"]
        for finding in row["findings"]
        if finding["level"] == level
    ]


def test_pods_that_were_admitted_and_pods_that_escaped_are_distinguished(
    mesh_cluster: MeshCluster, auditor: Command
) -> None:
    namespace = mesh_cluster.enroll("warn")
    created = mesh_cluster.api.get("Namespace", namespace)["metadata"]["creationTimestamp"]
    second = datetime.datetime.fromisoformat(created) + datetime.timedelta(seconds=1)
    wait_for(lambda: datetime.datetime.now(datetime.UTC) > second, why="the second to be over")
    mesh_cluster.api.create(pod(namespace, hostNetwork=True))
    await_running(mesh_cluster, namespace)
    report = auditor.audit("-n", namespace, codes=[1])
    assert findings(report) == [("shop", "host-network", "admitted")]
    mesh_cluster.api.patch(
        "Namespace", namespace, None, {"metadata": {"labels": {MODE_LABEL: "enforce"},
                                                    "annotations": {ENROLLED_AT: created}}}
    )  # fmt: skip
    report = auditor.audit("-n", namespace, codes=[1])
    assert findings(report) == [("shop", "host-network", "escaped")]


def await_running(cluster: MeshCluster, namespace: str, name: str = "shop") -> None:
    wait_for(
        lambda: cluster.api.get("Pod", name, namespace)["status"].get("phase") == "Running",
        why=f"pod {name} to run",
    )


def test_a_proxy_of_another_version_and_other_roots_are_reported(
    mesh_cluster: MeshCluster, auditor: Command, linkerd_config: None
) -> None:
    namespace = mesh_cluster.enroll()
    mesh_cluster.api.create(workload("Deployment", namespace))
    ready_pods(mesh_cluster.api, namespace)
    assert "proxy-outdated" not in [check for _, check, _ in findings(
        auditor.audit("-n", namespace, codes=[0]), "warning")]  # fmt: skip
    for name, data in (
        ("linkerd-config", {"values": "linkerdVersion: edge-99.1.1"}),
        ("linkerd-identity-trust-roots", {"ca-bundle.crt": "others"}),
    ):
        mesh_cluster.api.patch("ConfigMap", name, "linkerd", {"data": data})
    report = auditor.audit("-n", namespace, codes=[0])
    advice = {check for _, check, _ in findings(report, "warning")}
    assert {"proxy-outdated", "trust-anchor-changed"} <= advice
    assert states(report) == {"Deployment/shop": "meshed"}


# Rights.


def test_what_the_least_rights_give_is_what_all_rights_give(
    mesh_cluster: MeshCluster, auditor: Command
) -> None:
    admin = command.as_admin(mesh_cluster.plane)
    mendix.install_crds(mesh_cluster.api)
    for arguments in (("audit", "-A"), ("audit",), ("discover",)):
        by_admin = admin(*arguments, "-o", "json", codes=[0, 1])
        by_account = auditor(*arguments, "-o", "json", codes=[0, 1])
        assert by_account.data == by_admin.data
        assert by_account.err == by_admin.err


# Reports.


@pytest.fixture
def policy_reports(mesh_cluster: MeshCluster) -> Iterator[None]:
    """The Policy working group's CRD, as far as reports could break it."""
    yield from defined(mesh_cluster, "wgpolicyk8s.io", "v1alpha2", "PolicyReport")


@pytest.fixture
def open_reports(mesh_cluster: MeshCluster) -> Iterator[None]:
    """OpenReports' CRD, likewise."""
    yield from defined(mesh_cluster, "openreports.io", "v1alpha1", "Report")


def defined(cluster: MeshCluster, group: str, version: str, kind: str) -> Iterator[None]:
    text, number = {"type": "string"}, {"type": "integer"}
    resource = {"apiVersion": text, "kind": text, "namespace": text, "name": text}
    result = {
        "source": text, "policy": text, "rule": text, "category": text, "message": text,
        "severity": {"type": "string", "enum": ["critical", "high", "low", "medium", "info"]},
        "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
        "scored": {"type": "boolean"},
        "resources": {"type": "array", "items": {"type": "object", "properties": resource}},
        "properties": {"type": "object", "additionalProperties": text},
    }  # fmt: skip
    summary = dict.fromkeys(("pass", "fail", "warn", "error", "skip"), number)
    schema = {
        "type": "object",
        "properties": {
            "scope": {"type": "object", "properties": resource},
            "summary": {"type": "object", "properties": summary},
            "results": {
                "type": "array",
                "items": {"type": "object", "required": ["policy"], "properties": result},
            },
        },
    }
    cluster.api.define(definition(group, version, kind, schema=schema))
    yield
    cluster.api.delete("CustomResourceDefinition", f"{kind.lower()}s.{group}")
    wait_for(lambda: not cluster.api.serves(kind), why=f"{kind} to be gone")


def test_one_report_a_namespace_is_written_owned_and_removed(
    mesh_cluster: MeshCluster, auditor: Command, policy_reports: None
) -> None:
    good, bad = mesh_cluster.enroll(), mesh_cluster.plane.new_namespace("mendix")
    mesh_cluster.api.create(workload("Deployment", good))
    mesh_cluster.api.create(workload("Deployment", bad))
    for namespace in (good, bad):
        ready_pods(mesh_cluster.api, namespace)
    mesh_cluster.relabel(bad, "linkerd.enforce")

    auditor("audit", "--write-reports", codes=[1])
    reports = {one["metadata"]["namespace"]: one for one in mesh_cluster.api.list("PolicyReport")}
    assert {good, bad} <= reports.keys()
    fails = [one for one in reports[bad]["results"] if one["result"] == "fail"]
    assert [(one["rule"], one["resources"][0]["name"]) for one in fails] == [
        ("proxy-missing", "shop")
    ]
    assert reports[good]["summary"]["fail"] == 0
    assert reports[bad]["summary"]["fail"] == 1
    configuration = mesh_cluster.api.get("ValidatingWebhookConfiguration", "mendix-mesh")
    (owner,) = reports[bad]["metadata"]["ownerReferences"]
    assert owner["uid"] == configuration["metadata"]["uid"]

    auditor("audit", "--write-reports", codes=[0, 1])
    again = mesh_cluster.api.get("PolicyReport", "mendix-mesh", bad)
    assert again["metadata"]["resourceVersion"] == reports[bad]["metadata"]["resourceVersion"]

    mesh_cluster.api.patch("Namespace", bad, None, {"metadata": {"labels": {MESH_LABEL: None}}})
    auditor("audit", "--write-reports", codes=[0, 1])
    left = {one["metadata"]["namespace"] for one in mesh_cluster.api.list("PolicyReport")}
    assert good in left
    assert bad not in left


def test_open_reports_are_written_if_they_are_known(
    mesh_cluster: MeshCluster, auditor: Command, policy_reports: None, open_reports: None
) -> None:
    namespace = mesh_cluster.enroll()
    auditor("audit", "--write-reports", "-n", namespace)
    report = mesh_cluster.api.get("Report", "mendix-mesh", namespace)
    assert report["scope"]["name"] == namespace
    assert mesh_cluster.api.list("PolicyReport", namespace) == []
