"""Linkerd, apart from the fixtures: settings, templates, updates, ingress."""

import json
from typing import Any

import pytest

from tests.fixtures.changes import APP, PROXY, Change, annotation, changed, drop, label, put
from tests.fixtures.meshes import linkerd
from tests.fixtures.meshes.linkerd import arguments, config, injected, variable
from tests.standins.linkerd import InjectorConfig
from tests.unit.policy.judge import broken, deployment, judge, settings, words
from webhook.policy.settings import Settings

INJECT = "linkerd.io/inject"
POLICY = "default-inbound-policy"
CLOSED = settings(linkerd={"inboundPolicy": "all-authenticated"})


def own(**linkerds: Any) -> Settings:
    return settings(linkerd=linkerds)


# How the mesh is installed.


def test_a_mirror_of_the_images_is_trusted_if_the_settings_name_it() -> None:
    pod = injected(config=InjectorConfig(image="mirror.local:5000/linkerd/proxy:edge"))
    assert broken(judge(pod)) == ["proxy-image-untrusted"]
    given = own(proxyImages=["cr.l5d.io/linkerd/proxy", "mirror.local:5000/linkerd/proxy"])
    assert broken(judge(pod, given=given)) == []


def test_an_image_of_linkerd_init_is_not_an_image_for_the_proxy() -> None:
    pod = changed(injected(), put(PROXY + "/image", linkerd.OLD_INIT_IMAGE))
    assert broken(judge(pod)) == ["proxy-image-untrusted"]


def test_many_images_are_distinguished() -> None:
    for number in range(600):
        pod = changed(injected(), put(PROXY + "/image", f"evil.io/{number}"))
        assert broken(judge(pod)) == ["proxy-image-untrusted"]
    assert broken(judge(injected())) == []


def test_another_user_and_group_of_the_proxy_are_the_mesh_s_if_the_settings_say_so() -> None:
    pod = injected(config=InjectorConfig(proxy_uid=3000, proxy_gid=3001))
    # The app sets its user but not its group, so it may run as the group that bypasses the proxy.
    assert words(judge(pod)) == [
        "spec.containers[mendix].securityContext.runAsGroup is not set, so the container can run "
        "as 3001, the proxy's runAsGroup here; author: set it; mesh's admin: if the whole mesh "
        "uses "
        "3001, set settings.linkerd.proxyGid",
    ]
    given = own(proxyUid=3000, proxyGid=3001)
    assert broken(judge(pod, given=given)) == []
    for field, number in (("runAsUser", 3000), ("runAsGroup", 3001)):
        app = changed(pod, put(f"{APP}/securityContext/{field}", number))
        assert broken(judge(app, given=given)) == ["proxy-uid"]
        whole = changed(pod, put("/spec/securityContext", {field: number}))
        whole = changed(whole, put(APP + "/securityContext", {"runAsNonRoot": True}))
        assert broken(judge(whole, given=given)) == ["proxy-uid"]


def test_what_the_mesh_skips_by_default_is_allowed_by_the_settings() -> None:
    mesh = InjectorConfig(skip_inbound="25", skip_outbound="443", skip_subnets="10.0.0.0/8")
    pod = injected(config=mesh)
    assert broken(judge(pod)) == ["capture-bypassed"]
    given = own(skipInboundPorts="25,4190,4191", skipOutboundPorts="443",
                skipSubnets=["10.0.0.0/8"])  # fmt: skip
    assert broken(judge(pod, given=given)) == []


def test_ports_from_another_source_are_reported_with_the_place_to_look_at() -> None:
    (text,) = words(judge(injected(config=InjectorConfig(skip_outbound="443"))))
    assert text == (
        "spec.initContainers[linkerd-init].args skips ports with --outbound-ports-to-ignore (443); "
        "namespace's owner: remove config.linkerd.io/skip-outbound-ports from the namespace; "
        "mesh's admin: add the mesh's default to settings.linkerd.skipOutboundPorts"
    )


def test_another_namespace_of_the_control_plane_is_ours_if_the_settings_say_so() -> None:
    pod = injected(config=InjectorConfig(control_plane_namespace="mesh"))
    assert broken(judge(pod)) == ["control-plane-elsewhere"]
    assert broken(judge(pod, given=own(controlPlaneNamespace="mesh"))) == []


def test_an_address_from_another_source_is_not_ours() -> None:
    source = {"valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
    name = "LINKERD2_PROXY_DESTINATION_SVC_ADDR"
    pod = changed(injected(), variable(name, None))
    pod = changed(pod, put(PROXY + "/env/-", {"name": name, **source}))
    assert broken(judge(pod)) == ["control-plane-elsewhere"]


# Templates, judged by intent.


@pytest.mark.parametrize(("value", "checks"), [("disabled", ["opted-out"]), ("true", []), ("", [])])
def test_a_template_s_opt_out_is_denied_and_what_is_fixed_later_is_not(
    value: str, checks: list[str]
) -> None:
    obj = deployment(changed(linkerd.app(), annotation(INJECT, value)))
    assert broken(judge(obj)) == checks


def test_a_template_is_not_denied_for_an_opt_out_that_is_overridden() -> None:
    obj = deployment(changed(linkerd.app(), annotation(INJECT, "disabled")))
    assert broken(judge(obj, given=settings(optOut="override"))) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (config("skip-outbound-ports", "25"), "capture-bypassed"),
        (config("control-port", "8080"), "capture-bypassed"),
        (config("skip-subnets", "0.0.0.0/0"), "capture-bypassed"),
        (annotation(INJECT, "ingress"), "capture-bypassed"),
        (config("proxy-uid", "1000"), "proxy-uid"),
        (config("proxy-gid", "1000"), "proxy-uid"),
        (put("/spec/volumes", [{"name": "linkerd-podinfo", "emptyDir": {}}]), "proxy-brought"),
        (label("linkerd.io/cni-resource", "x"), "injector-bypass-label"),
        (put("/spec/initContainers", [{"name": "linkerd-init", "image": "x"}]), "proxy-brought"),
    ],
)
def test_a_template_is_denied_for_what_its_pods_would_be_denied_for(
    change: Change, check: str
) -> None:
    assert check in broken(judge(deployment(changed(linkerd.app(), change))))


def test_a_template_is_not_denied_for_a_label_that_the_injector_overwrites() -> None:
    obj = deployment(changed(linkerd.app(), label(linkerd.LABEL, "elsewhere")))
    assert broken(judge(obj)) == []


# The proxy's environment.


def test_a_variable_that_is_there_twice_by_annotation_is_reported_once() -> None:
    value = json.dumps([{"name": "LINKERD2_PROXY_POLICY_SVC_ADDR", "value": "x.linkerd.svc:1"}])
    verdict = judge(injected(config("proxy-additional-env", value)))
    assert [v.field for v in verdict.violations] == [
        "metadata.annotations[config.linkerd.io/proxy-additional-env]"
    ]


def test_what_a_proxy_lacks_is_for_the_injector_to_add() -> None:
    name = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"
    assert words(judge(changed(injected(), variable(name, None))))[0] == (
        f"spec.initContainers[linkerd-proxy].env[{name}] is missing, so the proxy has no identity "
        f"and no mTLS; "
        "author: let Linkerd's injector add linkerd-proxy"
    )
    pod = injected()
    pod["spec"]["initContainers"][1]["securityContext"] = None
    assert any("than unset, the user that the proxy runs as" in said for said in words(judge(pod)))


# Evidence.


def test_a_pod_of_linkerd_before_native_sidecars_and_one_image_for_all_is_admitted() -> None:
    pod = injected(config=InjectorConfig(native=False))
    pod = changed(
        pod,
        put("/spec/initContainers/0/image", linkerd.OLD_INIT_IMAGE),
        drop("/spec/initContainers/0/command"),
        put("/spec/containers/0/lifecycle/postStart/exec/command",
            ["/usr/lib/linkerd/linkerd-await", "--timeout=2m"]),
    )  # fmt: skip
    assert words(judge(pod)) == []


@pytest.mark.parametrize(
    ("name", "where"),
    [("linkerd-init", "containers"), ("linkerd-network-validator", "containers")],
)
def test_the_mesh_s_names_in_the_wrong_place_are_the_workload_s(name: str, where: str) -> None:
    container = {"name": name, "image": "x", "securityContext": {"privileged": True}}
    pod = changed(injected(), put(f"/spec/{where}/-", container))
    assert "capture-capability" in broken(judge(pod))


@pytest.mark.parametrize("field", ["volumes", "securityContext"])
def test_a_stored_pod_without_parts_is_judged_all_the_same(field: str) -> None:
    pod = injected()
    pod["spec"][field] = None
    pod["spec"]["initContainers"][1]["securityContext"] = None
    assert "proxy-uid" in broken(judge(pod))


def test_one_cause_is_reported_once() -> None:
    for changes in (
        [config("proxy-uid", "1500")],
        [config("skip-outbound-ports", "443")],
        [config("skip-subnets", "10.0.0.0/8")],
        [config("proxy-image", "evil.io/proxy")],
    ):
        verdict = judge(injected(*changes))
        fields = {v.field for v in verdict.violations}
        assert not {field for field in fields if field.endswith("args")}
    pod = injected()
    (text,) = words(judge(changed(pod, arguments(pod, proxy_uid=None))))
    assert text.startswith("spec.initContainers[linkerd-init].args excludes another user")
    assert "(--proxy-uid missing)" in text


def test_a_proxy_that_keeps_to_its_defaults_need_not_state_its_ports() -> None:
    pod = injected()
    for name in ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR"):
        pod = changed(pod, put(PROXY + "/env", [
            entry for entry in pod["spec"]["initContainers"][1]["env"] if entry["name"] != name
        ]))  # fmt: skip
    assert broken(judge(pod)) == []
    for port in ("8080", None):
        (violation,) = judge(changed(pod, arguments(pod, incoming_proxy_port=port))).violations
        assert violation.check == "capture-bypassed"
        assert violation.values == (f"--incoming-proxy-port {port or 'missing'}",)


# The inbound policy that the settings demand.


def test_if_no_plaintext_is_demanded_an_open_policy_is_denied() -> None:
    pod = injected(config(POLICY, "all-unauthenticated"))
    assert broken(judge(pod)) == []
    assert words(judge(pod, given=CLOSED)) == [
        f"metadata.annotations[config.linkerd.io/{POLICY}] accepts clients without mutual TLS "
        "(all-unauthenticated); author: set it to all-authenticated, as "
        "settings.linkerd.inboundPolicy requires"
    ]
    assert not judge(pod, given=CLOSED).allowed


def test_a_pod_without_our_mutation_is_denied_by_the_start_of_its_proxy() -> None:
    pod = injected(drop(f"/metadata/annotations/config.linkerd.io~1{POLICY}"))
    assert broken(judge(pod, given=CLOSED)) == ["accepts-plaintext"]


def test_another_closed_policy_will_do() -> None:
    assert broken(judge(injected(config(POLICY, "deny")), given=CLOSED)) == []


def test_an_open_policy_that_is_demanded_is_only_advised_against() -> None:
    given = own(inboundPolicy="cluster-unauthenticated")
    verdict = judge(injected(config(POLICY, "cluster-unauthenticated")), given=given)
    assert (verdict.outcome, broken(verdict, "warning")) == ("admitted", ["accepts-plaintext"])


@pytest.mark.parametrize("policy", ["all-unauthenticated", "deny", None])
def test_an_update_keeps_the_demanded_policy(policy: str | None) -> None:
    old = injected()
    key = f"/metadata/annotations/config.linkerd.io~1{POLICY}"
    new = changed(old, put(key, policy) if policy else drop(key))
    verdict = judge(new, old, given=CLOSED)
    (violation,) = verdict.violations
    assert violation.check == "mesh-label-removed"
    assert violation.values == (f"all-authenticated -> {policy or 'removed'}",)


# Updates.


def test_a_lost_label_is_reported_once() -> None:
    old = injected()
    key = "/metadata/labels/linkerd.io~1control-plane-ns"
    for new, became in (
        (changed(old, drop(key)), "removed"),
        (changed(old, put(key, "elsewhere")), "elsewhere"),
    ):
        (violation,) = judge(new, old).violations
        assert violation.check == "mesh-label-removed"
        assert violation.values == (f"linkerd -> {became}",)


# Ingress controllers.


def test_an_ingress_controller_may_take_plaintext_in_and_be_in_ingress_mode() -> None:
    pod = injected(annotation(INJECT, "ingress"), config(POLICY, "all-unauthenticated"))
    assert broken(judge(pod)) == ["capture-bypassed"]
    verdict = judge(pod, given=CLOSED, ingress=True)
    assert (verdict.outcome, words(verdict)) == ("admitted", [])


def test_an_ingress_controller_gets_no_other_exception() -> None:
    pod = injected(config("skip-outbound-ports", "443"))
    assert broken(judge(pod, ingress=True)) == ["capture-bypassed"]
