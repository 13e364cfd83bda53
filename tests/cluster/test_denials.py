"""Pods that would run outside the mesh are denied, whatever creates them, with the reason."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import (
    INJECT,
    copy_of,
    failed_create,
    is_invalid_patch,
    is_meshed,
    pod,
    ready_pods,
    sidecar_of,
    workload,
)
from tests.fixtures.changes import RECORD

DENIED = 'admission webhook "linkerd.enforce.mendix-mesh.io" denied the request: '
SKIP = "config.linkerd.io/skip-inbound-ports"
APP = {"name": "app", "image": "registry.example.com/shop:1"}


@pytest.fixture
def outage(mesh_cluster: MeshCluster) -> Iterator[None]:
    """Linkerd's injector is down until the test restarts it, or ends."""
    mesh_cluster.injector.stop()
    yield
    mesh_cluster.injector.restart()


def denial(api: Api, obj: Json) -> StatusError:
    """Create an object that must be denied, and return the denial."""
    with pytest.raises(StatusError) as denied:
        api.create(obj)
    assert denied.value.code == 403
    assert denied.value.status["reason"] == "Forbidden"
    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    with pytest.raises(StatusError, match="not found"):
        api.get(obj["kind"], name, namespace)
    return denied.value


def test_a_denial_names_the_pod_the_check_the_field_the_reason_and_the_fix(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    denied = denial(api, pod(mesh_cluster.enroll(), "shop-debug", hostNetwork=True))
    assert denied.message == DENIED + (
        "pod shop-debug would run outside the linkerd mesh:\n"
        "  host-network  spec.hostNetwork  uses the node's network, where no mesh can capture "
        "traffic; "
        "author: remove hostNetwork: true"
    )


def test_a_denial_names_every_violation_at_once_one_aligned_line_each(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    made = pod(
        mesh_cluster.enroll(),
        "shop-debug",
        annotations={INJECT: "disabled", SKIP: "8080,9000-9010"},
        hostNetwork=True,
        containers=[{**APP, "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}],
    )
    denied = denial(api, made)
    first, *lines = denied.message.splitlines()
    assert first == DENIED + "pod shop-debug would run outside the linkerd mesh:"
    assert {line.split()[0] for line in lines} == {
        "capture-bypassed",
        "capture-capability",
        "host-network",
        "opted-out",
    }
    rows = [line.split("  ") for line in lines]
    columns = {line.index(line.split()[1]) for line in lines}
    assert len(columns) == 1, rows
    causes = denied.status["details"]["causes"]
    assert {cause["reason"] for cause in causes} >= {line.split()[0] for line in lines}
    assert all(cause["field"] and cause["message"] for cause in causes)


@pytest.mark.parametrize(
    ("check", "annotations", "spec"),
    [
        ("opted-out", {INJECT: "disabled"}, {}),
        ("host-network", {}, {"hostNetwork": True}),
        ("capture-bypassed", {SKIP: "8080"}, {}),
        ("capture-bypassed", {"config.linkerd.io/skip-outbound-ports": "5432"}, {}),
        ("capture-bypassed", {"config.linkerd.io/skip-subnets": "10.0.0.0/8"}, {}),
        ("capture-bypassed", {INJECT: "ingress"}, {}),
        ("proxy-uid", {}, {"securityContext": {"runAsUser": 2102}}),
        ("proxy-uid", {"config.linkerd.io/proxy-uid": "1000"}, {}),
        ("proxy-image-untrusted", {"config.linkerd.io/proxy-image": "evil.example/proxy"}, {}),
        (
            "proxy-env-overridden",
            {
                "config.linkerd.io/proxy-additional-env": json.dumps(
                    [{"name": "LINKERD2_PROXY_IDENTITY_SVC_ADDR", "value": "evil:1"}]
                )
            },
            {},
        ),
        ("proxy-brought", {}, {"containers": [APP, {"name": "linkerd-proxy", "image": "sleep"}]}),
        ("proxy-brought", {}, {"initContainers": [{"name": "linkerd-init", "image": "true"}]}),
        ("input-not-allowed", {"config.linkerd.io/image-pull-policy":
            'IfNotPresent\nenv: [{"name": "LINKERD2_PROXY_INBOUND_PORTS", "value": ""}]'}, {}),
        ("input-not-allowed", {"config.linkerd.io/next": "x"}, {}),
        ("proxy-image-untrusted", {"config.linkerd.io/proxy-version": "stable-2.14.10"}, {}),
        ("control-plane-elsewhere", {}, {"hostAliases": [
            {"ip": "10.9.9.9", "hostnames": ["linkerd-policy.linkerd.svc.cluster.local"]}]}),
        ("foreign-mesh", {}, {"containers": [APP, {"name": "istio-proxy", "image": "sleep"}]}),
        ("capture-capability", {},
         {"containers": [{**APP, "securityContext": {"privileged": True}}]}),
    ],
)  # fmt: skip
def test_a_bypass_of_the_proxy_is_denied(
    api: Api, mesh_cluster: MeshCluster, check: str, annotations: Json, spec: Json
) -> None:
    denied = denial(api, pod(mesh_cluster.enroll(), annotations=annotations, **spec))
    assert f"  {check}  " in denied.message


@pytest.mark.parametrize("name", ["linkerd.io/control-plane-component", "linkerd.io/cni-resource"])
def test_a_label_that_hides_the_pod_from_the_injector_is_denied(
    api: Api, mesh_cluster: MeshCluster, name: str
) -> None:
    denied = denial(api, pod(mesh_cluster.enroll(), labels={name: "x"}))
    assert f"  injector-bypass-label  metadata.labels[{name}]" in denied.message
    assert "proxy-missing" not in denied.message


@pytest.mark.parametrize(
    ("check", "metadata"),
    [
        ("proxy-missing", {"labels": {"config.linkerd.io/admission-webhooks": "disabled"}}),
        ("proxy-missing", {"annotations": {INJECT: "maybe"}}),
        ("capture-bypassed", {"annotations": {SKIP: "8080"}}),
        ("proxy-image-untrusted",
         {"annotations": {"config.linkerd.io/proxy-image": "evil.example/proxy"}}),
        ("proxy-uid", {"annotations": {"config.linkerd.io/proxy-uid": "1000"}}),
        # With JSON in it, the injector's patch is invalid, and the pod gets no proxy.
        ("proxy-missing", {"annotations": {"config.linkerd.io/proxy-additional-env":
            '[{"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "0.0.0.0:1"}]'}}),
    ],
)  # fmt: skip
def test_a_namespace_that_leads_its_pods_round_the_proxy_gains_nothing(
    mesh_cluster: MeshCluster, check: str, metadata: Json
) -> None:
    """The injector reads these from the namespace, which is not reviewed: its pods are."""
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    api.patch("Namespace", where, None, {"metadata": metadata})

    # The API server hears of a namespace's new label a moment later.
    message = wait_for(lambda: api.denial(pod(where)), why="the pod to be denied")
    assert f"  {check}  " in message or is_invalid_patch(message)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_a_template_that_is_certain_to_fail_is_denied_at_once(
    api: Api, mesh_cluster: MeshCluster, kind: str
) -> None:
    denied = denial(api, workload(kind, mesh_cluster.enroll(), hostNetwork=True))
    path = "spec.jobTemplate.spec.template" if kind == "CronJob" else "spec.template"
    assert f"{DENIED}{kind.lower()} shop would run outside the linkerd mesh:" in denied.message
    assert f"  host-network  {path}.spec.hostNetwork  " in denied.message
    assert "proxy-missing" not in denied.message


def test_a_pod_of_a_generated_name_is_named_by_its_pattern(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    """A generated name is gone after the denial. It would make each retry's message different."""
    made = pod(mesh_cluster.enroll(), hostNetwork=True)
    del made["metadata"]["name"]
    made["metadata"]["generateName"] = "shop-"
    with pytest.raises(StatusError, match=r"denied the request: pod shop-\* would run outside"):
        api.create(made)


def test_a_replica_set_says_why_it_has_no_pods_and_recovers_when_the_injector_is_back(
    mesh_cluster: MeshCluster, outage: None
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    api.create(workload("Deployment", where, replicas=2))
    message = wait_for(lambda: failed_create(api, where, "shop-"), why="the ReplicaSet's event")
    (replica_set,) = api.list("ReplicaSet", where)
    name = replica_set["metadata"]["name"]
    assert message.startswith(f"Error creating: {DENIED}pod {name}-* would run outside")
    assert "  proxy-missing  spec.initContainers  has no linkerd-proxy container; " in message

    def condition() -> str:
        found = api.get("Deployment", "shop", where)["status"].get("conditions", ())
        return next((str(c["message"]) for c in found if c["type"] == "ReplicaFailure"), "")

    assert "proxy-missing" in wait_for(condition, why="the Deployment's condition")
    # `get` shows only the end of the first line, `describe` shows everything.
    kubectl = mesh_cluster.plane.kubectl
    assert "would run outside the linkerd mesh:..." in kubectl("get", "events", "-n", where).stdout
    assert "  proxy-missing  " in kubectl("describe", "replicaset", "-n", where).stdout
    assert api.list("Pod", where) == []

    mesh_cluster.injector.restart()
    assert all(map(is_meshed, ready_pods(api, where, count=2)))


def test_a_statefulset_and_a_job_recover_too(mesh_cluster: MeshCluster, outage: None) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll()
    for kind in ("StatefulSet", "DaemonSet", "Job"):
        api.create(workload(kind, where, kind.lower()))
    for kind in ("StatefulSet", "DaemonSet", "Job"):
        wait_for(lambda kind=kind: failed_create(api, where, kind.lower()), why=f"{kind}'s event")  # type: ignore[misc]
    mesh_cluster.injector.restart()
    for kind in ("StatefulSet", "DaemonSet", "Job"):
        (found,) = ready_pods(api, where, kind.lower())
        assert is_meshed(found)


def test_without_us_the_same_outage_lets_a_pod_start_in_plaintext(
    mesh_cluster: MeshCluster, outage: None
) -> None:
    where = mesh_cluster.plane.new_namespace(annotations={INJECT: "enabled"})
    assert not sidecar_of(mesh_cluster.api.create(pod(where)))


def test_a_denied_dry_run_says_the_same(api: Api, mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    messages = []
    for dry_run in (True, False):
        with pytest.raises(StatusError) as denied:
            api.create(pod(where, hostNetwork=True), dry_run=dry_run)
        messages.append(denied.value.message)
    assert messages[0] == messages[1]


@pytest.mark.parametrize("changed", [False, True], ids=["as it was", "with a variable changed"])
@pytest.mark.parametrize("preset", [None, "", "app"])
def test_a_proxy_that_a_pod_brings_is_denied_even_if_it_looks_valid(
    api: Api, mesh_cluster: MeshCluster, changed: bool, preset: str | None
) -> None:
    """The injector skips a pod that already has a proxy, so nothing is added to the copy.

    We record the author's input before the injectors run, so their work is not recorded.
    """
    stored = api.create(pod(mesh_cluster.enroll()))
    assert is_meshed(stored)
    assert stored["metadata"]["annotations"][RECORD] == "allowed"
    made = copy_of(stored)
    if preset is not None:
        made["metadata"]["annotations"][RECORD] = preset
    proxy = made["spec"]["initContainers"][1]
    (networks,) = [one for one in proxy["env"] if one["name"].endswith("_PROFILE_NETWORKS")]
    assert networks["name"] == "LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS"
    networks["value"] = "127.0.0.0/8" if changed else networks["value"]
    first, *lines = denial(api, made).message.splitlines()
    assert first == DENIED + "pod copy would run outside the linkerd mesh:"
    assert [line.split()[:2] for line in lines] == [
        ["proxy-brought", "spec.initContainers[linkerd-init]"],
        ["proxy-brought", "spec.initContainers[linkerd-proxy]"],
    ]


def test_the_record_of_a_running_pod_must_not_be_changed(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    where = mesh_cluster.enroll()
    api.create(pod(where))
    for value in ("", None):
        with pytest.raises(StatusError, match="proxy-brought"):
            api.patch("Pod", "shop", where, {"metadata": {"annotations": {RECORD: value}}})
    api.patch("Pod", "shop", where, {"metadata": {"labels": {"team": "shop"}}})


def test_the_mesh_of_another_control_plane_is_denied(api: Api, mesh_cluster: MeshCluster) -> None:
    injector = mesh_cluster.injector
    before = injector.config
    injector.config = dataclasses.replace(before, control_plane_namespace="linkerd-two")
    try:
        denied = denial(api, pod(mesh_cluster.enroll()))
    finally:
        injector.config = before
    assert "  control-plane-elsewhere  " in denied.message


def test_advice_reaches_the_client_as_short_warnings(api: Api, mesh_cluster: MeshCluster) -> None:
    where = mesh_cluster.enroll()
    api.create(pod(where))
    (warning,) = api.warnings
    assert warning.startswith("mendix-mesh (linkerd) pod shop: ")
    assert len(warning) < 120
    shown = mesh_cluster.plane.kubectl("run", "app", "--image=shop", "-n", where).stderr
    assert shown == f"Warning: {warning.replace('pod shop', 'pod app')}\n"
    # A denial comes without further warnings.
    denial(api, pod(where, "third", hostNetwork=True))
    assert api.warnings == []


def test_every_field_of_a_pod_that_is_not_read_survives(
    api: Api, mesh_cluster: MeshCluster
) -> None:
    spec: dict[str, Any] = {
        "containers": [{**APP, "workingDir": "/x", "stdinOnce": True, "stdin": True,
                        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.example.com"]}],
        "schedulingGates": [{"name": "tests.mendix-mesh.io/wait"}],
    }  # fmt: skip
    outside = api.create(pod(mesh_cluster.plane.new_namespace(), **spec))["spec"]
    inside = api.create(pod(mesh_cluster.enroll(), **spec))["spec"]
    for volume_mount in (outside["containers"][0], inside["containers"][0]):
        del volume_mount["volumeMounts"]  # The token's volume has its own name.
    for field in spec:
        assert inside[field] == outside[field]
