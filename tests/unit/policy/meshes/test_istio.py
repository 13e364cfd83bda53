"""Istio's sidecar, apart from the fixtures: opt-in, settings, intent, updates."""

import itertools
from typing import Any

import pytest

from tests.fixtures.changes import (
    APP,
    INIT,
    LABELS,
    PROXY,
    Change,
    annotation,
    changed,
    drop,
    escaped,
    label,
    put,
    value_at,
)
from tests.fixtures.meshes import istio
from tests.fixtures.meshes.istio import (
    CONFIG,
    INJECT,
    NATIVE,
    STATUS,
    TLS_MODE,
    TRAFFIC,
    app,
    customised,
    gateway,
    injected,
    proxy_config,
    traffic,
    variable,
    waypoint,
)
from tests.standins.istio import InjectorConfig
from tests.unit.policy.judge import Json, broken, deployment, judge, patch_for, settings, words
from webhook.policy.settings import Settings

HOLD = "holdApplicationUntilProxyStarts"
REVISION = "istio.io/rev"
OVERRIDE = settings(optOut="override")
OPENSHIFT = InjectorConfig(uid=1000680001, gid=1000680001)


def own(**istios: Any) -> Settings:
    return settings(istio=istios)


def found(pod: Json, **more: Any) -> list[str]:
    return broken(judge(pod, by="istio", **more))


def marked(in_label: str | None, in_annotation: str | None) -> Json:
    """A pod before its injection, with these values of the two that decide about it."""
    pod = changed(app(), drop(LABELS + escaped(INJECT)))
    changes: list[Change] = []
    changes += [label(INJECT, in_label)] if in_label is not None else []
    changes += [annotation(INJECT, in_annotation)] if in_annotation is not None else []
    return changed(pod, *changes)


def added(pod: Json, **more: Any) -> dict[str, str]:
    """Labels and annotations that mutation adds, by their keys."""
    found = {}
    for operation in patch_for(pod, by="istio", **more):
        path = operation["path"]
        if path.endswith(("/labels", "/annotations")):
            found.update(operation["value"])
        else:
            found[path.rpartition("/")[2].replace("~1", "/")] = operation["value"]
    return found


# Opting in and out: pkg/kube/inject/inject.go injectRequired.

OPT_IN = {INJECT: "true"}


@pytest.mark.parametrize(
    ("in_label", "in_annotation", "patch"),
    [
        (None, None, OPT_IN),
        (None, "true", OPT_IN),
        (None, "", OPT_IN),
        (None, "yes", OPT_IN),
        (None, "false", {}),
        ("true", None, {}),
        ("true", "false", {}),
        ("false", None, {}),
        ("false", "true", {}),
        ("", "false", OPT_IN),
        ("False", None, OPT_IN),
        ("yes", None, OPT_IN),
    ],
)
def test_the_label_is_added_unless_the_author_says_no(
    in_label: str | None, in_annotation: str | None, patch: dict[str, str]
) -> None:
    pod = marked(in_label, in_annotation)
    assert added(pod) == patch
    assert added(pod, given=OVERRIDE) == ({} if in_label == "true" else OPT_IN)


VALUES = (None, "true", "false", "", "False", "0", "yes")


@pytest.mark.parametrize(("in_label", "in_annotation"), list(itertools.product(VALUES, VALUES)))
def test_an_opt_out_is_what_the_injector_or_the_cni_plugin_takes_for_one(
    in_label: str | None, in_annotation: str | None
) -> None:
    value = in_annotation if in_label is None else in_label
    pod = marked(in_label, in_annotation)
    template = deployment(pod)
    says_no = ["opted-out"] if value == "false" else []
    assert found(template) == says_no
    assert found(template, given=OVERRIDE) == []
    stored = ["proxy-missing"] if value in (None, "true") else ["opted-out"]
    assert found(pod) == stored
    assert found(pod, given=OVERRIDE) == stored


def test_the_revision_of_the_settings_is_requested() -> None:
    given = own(revision="canary")
    assert added(marked(None, None), given=given) == {**OPT_IN, REVISION: "canary"}
    assert added(marked("true", None), given=given) == {REVISION: "canary"}
    assert added(changed(app(), label(REVISION, "prod")), given=given) == {}
    assert added(marked("false", None), given=given) == {}


def test_a_pod_that_must_end_gets_a_sidecar_that_ends() -> None:
    task = put("/spec/restartPolicy", "Never")
    assert added(changed(app(), task)) == {NATIVE: "true"}
    for value in ("true", "false"):
        assert added(changed(app(), task, annotation(NATIVE, value))) == {}
    assert added(app()) == {}


@pytest.mark.parametrize("pod", [gateway(), waypoint()], ids=["gateway", "waypoint"])
def test_the_mesh_s_own_pods_are_left_alone(pod: Json) -> None:
    assert added(pod) == {}
    assert judge(pod, by="istio").outcome == "admitted"
    assert judge(deployment(pod), by="istio").outcome == "admitted"


def test_a_gateway_is_known_before_it_is_injected() -> None:
    only = put("/spec/containers", [{"name": "istio-proxy", "image": "auto"}])
    pod = changed(app(), annotation(istio.TEMPLATES, "gateway"), only)
    assert judge(deployment(pod), by="istio").outcome == "admitted"
    for change in (
        annotation(istio.TEMPLATES, "gateway,shop"),
        put(APP + "/image", "evil.io/proxy:1"),
        put(APP + "/command", ["sleep"]),
        put(APP + "/name", "shop"),
        put("/spec/hostNetwork", True),
    ):
        assert found(deployment(changed(pod, change)))


# Evidence.


def test_a_proxy_in_both_lists_is_one_too_many() -> None:
    pod = injected(config=istio.CLASSIC)
    again = value_at(injected(), PROXY)
    verdict = judge(changed(pod, put("/spec/initContainers/-", again)), by="istio")
    assert broken(verdict) == ["proxy-forged"]
    assert [v.field for v in verdict.violations] == ["spec.containers[istio-proxy].name"]


def test_what_is_wrong_is_reported_with_the_fix() -> None:
    pod = changed(
        injected(config=istio.CNI),
        put(PROXY + "/securityContext/runAsGroup", 1000),
        traffic("excludeOutboundPorts", "5432, 6000-7000"),
        drop("/metadata/annotations/" + escaped(STATUS)),
    )
    assert words(judge(pod, by="istio")) == [
        "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts] makes traffic bypass "
        "the proxy in plaintext (5432, 6000-7000); author: remove it; admin: allow it in "
        "settings.allow, or for all pods in the mesh's settings",
        "metadata.annotations[sidecar.istio.io/status] is missing, so Istio's CNI plugin redirects "
        "no traffic; author: remove the mesh's containers, volumes and labels from the pod; the "
        "injector adds them",
        "spec.containers[mendix].securityContext.runAsGroup is not set, so the container can run "
        "as 1000, the proxy's runAsGroup here; author: set it; mesh's admin: if the whole mesh "
        "uses "
        "1000, set settings.istio.proxyUid",
    ]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (drop(LABELS + escaped(INJECT)), "check that mendix-mesh's mutating webhook runs"),
        (label(INJECT, "true"), "check that the namespace has no label istio-injection=disabled"),
        (label(REVISION, "canary"), "check that Istio's revision or tag canary is installed"),
    ],
)
def test_a_missing_proxy_is_reported_with_the_place_to_look_at(change: Change, hint: str) -> None:
    (text,) = words(judge(changed(app(), change), by="istio"))
    assert text.startswith("spec.initContainers has no istio-proxy container; ")
    assert hint in text


# How the mesh is installed.


def test_a_mirror_of_the_images_is_trusted_if_the_settings_name_it() -> None:
    pod = injected(config=InjectorConfig(hub="mirror.local:5000/istio"))
    assert found(pod) == ["proxy-image-untrusted"]
    assert found(pod, given=own(proxyImages=["mirror.local:5000/istio/proxyv2"])) == []
    ours = own(proxyImages=["mirror.local:5000/istio/proxyv2"])
    assert found(injected(), given=ours) == ["proxy-image-untrusted"]


def test_on_openshift_the_proxy_s_user_is_the_namespace_s() -> None:
    assert found(injected(config=OPENSHIFT)) == ["proxy-uid"]
    given = own(proxyUid=None)
    for config in (OPENSHIFT, InjectorConfig(uid=OPENSHIFT.uid, gid=OPENSHIFT.gid, cni=True)):
        pod = injected(put(APP + "/securityContext/runAsUser", 1000680000), config=config)
        assert found(pod, given=given) == []
        same = injected(put(APP + "/securityContext/runAsUser", OPENSHIFT.uid), config=config)
        assert found(same, given=given) == ["proxy-uid"]
    other = changed(injected(config=OPENSHIFT), put(INIT + "/args", ["istio-iptables", "-u", "1"]))
    assert "proxy-uid" in found(other, given=given)


def test_another_user_of_the_proxy_is_the_mesh_s_if_the_settings_say_so() -> None:
    pod = injected(config=InjectorConfig(uid=3000, gid=3000))
    assert found(pod) == ["proxy-uid"]
    assert found(pod, given=own(proxyUid=3000)) == []
    assert found(injected(), given=own(proxyUid=3000)) == ["proxy-uid"]


def test_what_the_mesh_leaves_out_by_default_is_allowed_by_the_settings() -> None:
    mesh = {
        "exclude_inbound_ports": "9901",
        "exclude_outbound_ports": "443,5432",
        "exclude_ip_ranges": "10.0.0.0/8,192.168.0.0/16",
    }
    given = own(excludeInboundPorts="9901", excludeOutboundPorts="443, 5000-6000",
                excludeOutboundIPRanges=["10.0.0.0/8", "192.168.0.0/16"])  # fmt: skip
    for cni in (False, True):
        pod = injected(config=InjectorConfig(cni=cni, **mesh))  # type: ignore[arg-type]
        assert found(pod) == ["capture-bypassed"]
        assert found(pod, given=given) == []


def test_an_external_istiod_is_ours_if_the_settings_name_its_host() -> None:
    address = "istiod.example.com:15012"
    pod = changed(
        injected(proxy_config(discoveryAddress=address)), variable("CA_ADDR", {"value": address})
    )
    assert found(pod) == ["input-not-allowed"]
    assert found(pod, given=own(controlPlaneHosts=["istiod.example.com"])) == []
    assert found(pod, given=own(controlPlaneHosts=["example.com"])) == ["input-not-allowed"]
    mesh_wide = changed(injected(), variable("CA_ADDR", {"value": address}))
    assert found(mesh_wide) == ["control-plane-elsewhere"]
    assert found(mesh_wide, given=own(controlPlaneHosts=["istiod.example.com"])) == []


def test_another_namespace_of_istiod_is_ours_if_the_settings_say_so() -> None:
    assert found(injected(), given=own(controlPlaneNamespace="mesh")) == ["control-plane-elsewhere"]
    pod = changed(injected(), variable("CA_ADDR", {"value": "istiod.mesh.svc:15012"}))
    assert found(pod, given=own(controlPlaneNamespace="mesh")) == []


def test_further_templates_are_an_admin_s_to_allow() -> None:
    pod = changed(injected(), annotation(istio.TEMPLATES, "sidecar,spire"))
    assert found(pod) == ["capture-bypassed"]
    assert found(pod, given=own(templates=["spire"])) == []
    alone = injected(annotation(istio.TEMPLATES, "gateway"))
    assert found(alone, given=own(templates=["gateway"])) == ["proxy-forged"]


# Templates, judged by intent.


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (label(INJECT, "false"), "opted-out"),
        (label(TLS_MODE, "disabled"), "mtls-disabled"),
        (annotation(istio.MODE, "NONE"), "capture-bypassed"),
        (customised(securityContext={"runAsUser": 1337}), "input-not-allowed"),
        (put("/spec/volumes", [{"name": "istio-token", "emptyDir": {}}]), "proxy-brought"),
        (annotation(istio.TEMPLATES, "gateway"), "capture-bypassed"),
        (annotation(istio.TEMPLATES, "sidecar,shop"), "capture-bypassed"),
        (traffic("includeInboundPorts", ""), "capture-bypassed"),
        (traffic("includeOutboundIPRanges", ""), "capture-bypassed"),
        (traffic("excludeInboundPorts", "8080"), "capture-bypassed"),
        (traffic("excludeOutboundPorts", "1-65535"), "capture-bypassed"),
        (traffic("excludeOutboundIPRanges", "0.0.0.0/0"), "capture-bypassed"),
        (traffic("excludeInterfaces", "eth0"), "capture-bypassed"),
        (traffic("kubevirtInterfaces", "eth0"), "capture-bypassed"),
        (annotation("istio.io/reroute-virtual-interfaces", "eth0"), "capture-bypassed"),
        (annotation("status.sidecar.istio.io/port", "8080"), "capture-bypassed"),
        (annotation(STATUS, "{}"), "status-forged"),
        (put(APP + "/securityContext/runAsUser", 1337), "proxy-uid"),
        (put("/spec/securityContext", {"fsGroup": 1337}), "proxy-uid"),
        (put("/spec/hostNetwork", True), "host-network"),
        (annotation("linkerd.io/inject", "ingress"), "foreign-mesh"),
        (label("istio.io/dataplane-mode", "ambient"), "foreign-mesh"),
    ],
)
def test_a_template_is_denied_for_what_is_certain_to_be_denied(change: Change, check: str) -> None:
    verdict = judge(deployment(changed(app(), change)), by="istio")
    assert broken(verdict) == [check]
    assert all(v.field.startswith("spec.template.") for v in verdict.violations)


@pytest.mark.parametrize(
    "changes",
    [
        [drop(LABELS + escaped(INJECT))],
        [annotation(INJECT, "true")],
        [customised(readinessProbe={"initialDelaySeconds": 5}, resources={})],
        [put("/spec/initContainers", [{"name": "istio-proxy", "image": "auto"}])],
        [put("/spec/automountServiceAccountToken", False)],
    ],
)
def test_a_template_whose_pods_will_join_is_not_denied(changes: list[Change]) -> None:
    verdict = judge(deployment(changed(app(), *changes)), by="istio")
    assert verdict.outcome == "admitted"
    assert verdict.violations == ()


# Updates.


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (traffic("excludeOutboundPorts", "5432"), "capture-bypassed"),
        (traffic("excludeInboundPorts", "15020,8080"), "capture-bypassed"),
        (drop("/metadata/annotations/" + escaped(STATUS)), "proxy-forged"),
        (label(INJECT, "false"), "opted-out"),
        (annotation(CONFIG, "binaryPath: /tmp/x"), "input-not-allowed"),
        (annotation("sidecar.istio.io/discoveryAddress", "a:1"), "control-plane-elsewhere"),
        (put(PROXY + "/image", "evil.io/proxy:1"), "proxy-image-untrusted"),
        (put(INIT + "/image", "evil.io/proxy:1"), "proxy-image-untrusted"),
        (label(TLS_MODE, "disabled"), "mesh-label-removed"),
        (label("istio.io/dataplane-mode", "ambient"), "foreign-mesh"),
    ],
)
def test_what_an_update_makes_worse_is_denied(change: Change, check: str) -> None:
    pod = injected(config=istio.CNI)
    assert found(changed(pod, change), old=pod) == [check]


# Ingress controllers.


@pytest.mark.parametrize("config", [InjectorConfig(), istio.CNI, istio.CLASSIC])
def test_an_ingress_controller_takes_in_clients_that_are_not_of_the_mesh(
    config: InjectorConfig,
) -> None:
    pod = injected(traffic("includeInboundPorts", ""), config=config)
    assert found(pod) == ["capture-bypassed"]
    assert found(pod, ingress=True) == []
    assert found(deployment(pod), ingress=True) == ["proxy-brought"]


@pytest.mark.parametrize(
    "change",
    [
        traffic("includeOutboundIPRanges", ""),
        traffic("excludeOutboundPorts", "8080"),
        traffic("excludeInboundPorts", "80"),
        annotation("istio.io/reroute-virtual-interfaces", "eth0"),
    ],
)
def test_what_an_ingress_controller_sends_must_pass_its_proxy(change: Change) -> None:
    assert found(injected(change), ingress=True) == ["capture-bypassed"]


def test_a_gateway_s_proxy_beside_an_ingress_controller_captures_nothing() -> None:
    pod = injected(annotation(istio.TEMPLATES, "gateway"))
    assert "proxy-forged" in found(pod, ingress=True)
    assert TRAFFIC + "includeInboundPorts" not in pod["metadata"]["annotations"]
