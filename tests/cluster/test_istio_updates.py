"""Running pods stay in Istio, whatever an update changes; all other changes are admitted."""

import json
from typing import Any

import pytest

from tests.cluster.api import Api, Json, Patch, StatusError
from tests.cluster.istio import (
    CONFIG,
    INJECT,
    REVISION,
    STATUS,
    TLS_MODE,
    IstioCluster,
    is_meshed,
    sidecar_of,
)
from tests.cluster.istiod import Istiod
from tests.cluster.workloads import pod

TRAFFIC = "traffic.sidecar.istio.io/"
FINALIZER = "tests.mendix-mesh.io/held"


@pytest.fixture
def api(istio_cluster: IstioCluster) -> Api:
    return istio_cluster.api


@pytest.fixture(scope="module")
def running(istio_cluster: IstioCluster) -> dict[str, Json]:
    """Meshed pods, by what redirects their traffic. Tests must not take them out of the mesh."""
    api, where = istio_cluster.api, istio_cluster.enroll("enforce")
    values: Json = {"pilot": {"cni": {"enabled": True}}}
    with Istiod(istio_cluster.plane, revision="cni", values=values):
        plugin = api.create(pod(where, "plugin", labels={REVISION: "cni"}))
    pods = {"istio-init": api.create(pod(where, "init")), "plugin": plugin}
    assert all(sidecar_of(one) == "native" for one in pods.values())
    return pods


def change(api: Api, running: Json, patch: Patch, **how: Any) -> Json:
    meta = running["metadata"]
    return api.patch("Pod", meta["name"], meta["namespace"], patch, how="strategic", **how)


def labels(**pairs: str | None) -> Json:
    return {"metadata": {"labels": pairs}}


def annotations(pairs: Json) -> Json:
    return {"metadata": {"annotations": pairs}}


def image(name: str, image: str) -> Json:
    return {"spec": {"initContainers": [{"name": name, "image": image}]}}


@pytest.mark.parametrize("form", ["istio-init", "plugin"])
@pytest.mark.parametrize(
    ("check", "patch"),
    [
        ("mesh-label-removed", labels(**{TLS_MODE: None})),
        ("mesh-label-removed", labels(**{TLS_MODE: "disabled"})),
        ("opted-out", labels(**{INJECT: "false"})),
        ("opted-out", labels(**{INJECT: "0"})),
        ("foreign-mesh", labels(**{"istio.io/dataplane-mode": "ambient"})),
        # The agent, and at a new start of the sandbox the plugin, read annotations again.
        ("capture-bypassed", annotations({f"{TRAFFIC}excludeOutboundPorts": "5432"})),
        ("capture-bypassed", annotations({f"{TRAFFIC}includeInboundPorts": ""})),
        ("capture-bypassed", annotations({"sidecar.istio.io/interceptionMode": "NONE"})),
        ("input-not-allowed", annotations({CONFIG: "binaryPath: /bin/sleep"})),
        ("control-plane-elsewhere",
         annotations({"sidecar.istio.io/discoveryAddress": "evil.example:15012"})),
        ("input-not-allowed",
         annotations({CONFIG: json.dumps({"discoveryAddress": "evil.example:15012"})})),
        ("proxy-image-untrusted", image("istio-proxy", "evil.example/proxyv2:1")),
        ("proxy-image-untrusted", image("istio-proxy", "docker.io/istio/proxyv2:1.31.1")),
        ("proxy-image-untrusted", image("istio-proxy", "evil.io/docker.io/istio/proxyv2:1")),
    ],
    ids=str,
)  # fmt: skip
def test_a_running_pod_must_not_leave_the_mesh(
    api: Api, running: dict[str, Json], form: str, check: str, patch: Patch
) -> None:
    with pytest.raises(StatusError) as denied:
        change(api, running[form], patch)
    assert denied.value.code == 403
    assert [line.split()[0] for line in denied.value.message.splitlines()[1:]] == [check]


@pytest.mark.parametrize(
    ("form", "check", "patch"),
    [
        ("istio-init", "proxy-image-untrusted", image("istio-init", "evil.example/proxyv2:1")),
        ("plugin", "proxy-image-untrusted", image("istio-validation", "evil.example/proxyv2:1")),
        ("plugin", "proxy-forged", annotations({STATUS: None})),
    ],
    ids=["istio-init", "istio-validation", "status"],
)
def test_nor_may_it_lose_what_redirects_its_traffic(
    api: Api, running: dict[str, Json], form: str, check: str, patch: Patch
) -> None:
    with pytest.raises(StatusError, match=f"  {check}  "):
        change(api, running[form], patch)


@pytest.mark.parametrize("form", ["istio-init", "plugin"])
@pytest.mark.parametrize(
    "patch",
    [
        labels(team="shop"),
        labels(**{"topology.istio.io/network": "network2"}),
        annotations({"note": "new"}),
        annotations({f"{TRAFFIC}excludeInboundPorts": "15020"}),
        {"metadata": {"finalizers": [FINALIZER]}},
        {"metadata": {"finalizers": None}},
        {"spec": {"containers": [{"name": "app", "image": "registry.example.com/shop:2"}]}},
    ],
    ids=str,
)
def test_a_running_pod_may_change_otherwise(
    api: Api, running: dict[str, Json], form: str, patch: Patch
) -> None:
    assert is_meshed(change(api, running[form], patch))


@pytest.mark.parametrize(
    ("check", "context"),
    [
        ("proxy-uid", {"runAsUser": 1337}),
        ("proxy-uid", {"runAsGroup": 1337}),
        ("capture-capability", {"capabilities": {"add": ["NET_ADMIN"]}}),
        ("capture-capability", {"privileged": True}),
    ],
    ids=str,
)
def test_an_ephemeral_container_that_can_evade_the_proxy_is_denied(
    api: Api, running: dict[str, Json], check: str, context: Json
) -> None:
    container = {"name": "evil", "image": "busybox", "securityContext": context}
    patch = {"spec": {"ephemeralContainers": [container]}}
    with pytest.raises(StatusError, match=rf"{check} +spec\.ephemeralContainers\[evil\]"):
        change(api, running["istio-init"], patch, subresource="ephemeralcontainers")


def test_an_ephemeral_container_with_a_user_of_its_own_is_admitted(
    api: Api, running: dict[str, Json]
) -> None:
    context = {"runAsUser": 1000, "runAsGroup": 1000}
    container = {"name": "debugger", "image": "busybox", "securityContext": context}
    patch = {"spec": {"ephemeralContainers": [container]}}
    changed = change(api, running["plugin"], patch, subresource="ephemeralcontainers")
    assert [c["name"] for c in changed["spec"]["ephemeralContainers"]] == ["debugger"]


def test_a_pod_of_before_the_enrollment_may_change_in_what_it_does_not_break(
    istio_cluster: IstioCluster,
) -> None:
    api, where = istio_cluster.api, istio_cluster.plane.new_namespace("old")
    broken = {f"{TRAFFIC}excludeOutboundPorts": "5432"}
    old = api.create(pod(where, labels={INJECT: "true"}, annotations=broken))
    api.create(pod(where, "plain"))
    istio_cluster.relabel(where, "istio.enforce", mesh="istio")
    for name in ("shop", "plain"):
        for patch in (labels(team="shop"), {"metadata": {"finalizers": [FINALIZER]}},
                      {"metadata": {"finalizers": None}}):  # fmt: skip
            api.patch("Pod", name, where, patch)
    with pytest.raises(StatusError, match=r"capture-bypassed .*\(5432, 9000\)"):
        change(api, old, annotations({f"{TRAFFIC}excludeOutboundPorts": "5432,9000"}))
    # Better is allowed, although istio-init has left the port out for good.
    change(api, old, annotations({f"{TRAFFIC}excludeOutboundPorts": None}))
    api.delete("Pod", "shop", where)
