"""From violations to a verdict: kinds, updates, modes, levels and exemptions."""

import datetime
from typing import Any

import pytest

from tests.fixtures.changes import APP, INIT, PROXY, Change, annotation, changed, drop, label, put
from tests.fixtures.meshes import istio, linkerd
from tests.standins import mendix_manifests as manifests
from tests.unit.policy import strategies
from tests.unit.policy.judge import Json, broken, judge, settings
from webhook.policy.mesh import RECORD
from webhook.policy.validate import MODES

TODAY = datetime.date(2026, 11, 24)
HOST: Json = changed(linkerd.app(), put("/spec/hostNetwork", True))
FORGED: Json = changed(linkerd.injected(), drop(INIT))


def exempt(*checks: str, **more: Any) -> Json:
    return {"checks": list(checks), "namespaces": ["mendix"], "reason": "agreed", **more}


# The judged objects.


def test_a_stored_pod_is_judged_by_evidence_and_a_manifest_by_intent() -> None:
    assert broken(judge(linkerd.app())) == ["proxy-missing"]
    assert judge(linkerd.app(), final=False).outcome == "admitted"


@pytest.mark.parametrize("kind", strategies.KINDS)
def test_every_kind_is_denied_for_what_is_certain_to_fail(kind: str) -> None:
    obj = strategies.workload(kind, {"metadata": HOST["metadata"], "spec": HOST["spec"]})
    verdict = judge(obj)
    assert verdict.outcome == "denied"
    prefix = {"Pod": "", "CronJob": "spec.jobTemplate.spec.template."}.get(kind, "spec.template.")
    assert {v.field for v in verdict.violations} == {f"{prefix}spec.hostNetwork"}


def test_a_template_that_brings_its_own_proxy_is_judged_by_that_too() -> None:
    obj = strategies.workload("Deployment", {k: FORGED[k] for k in ("metadata", "spec")})
    assert broken(judge(obj)) == ["proxy-brought"]
    given = settings(exemptions=[exempt("proxy-brought")])
    assert broken(judge(obj, given=given)) == ["proxy-forged"]


# Updates.


def test_an_update_is_judged_by_what_it_adds() -> None:
    assert judge(changed(HOST, label("a", "b")), HOST).outcome == "admitted"
    worse = changed(HOST, put("/spec/containers/0/securityContext/privileged", True))
    assert broken(judge(worse, HOST)) == ["capture-capability"]


def test_more_of_the_same_is_worse_and_less_of_it_is_not() -> None:
    key = "config.linkerd.io/skip-outbound-ports"
    some = linkerd.injected(annotation(key, "25,443"))
    more = changed(some, annotation(key, "25,443,8080"))
    assert broken(judge(more, some)) == ["capture-bypassed"]
    assert judge(some, more).outcome == "admitted"
    assert judge(changed(some, annotation(key, "25")), some).outcome == "admitted"


def test_one_untrusted_image_for_another_is_worse() -> None:
    path = PROXY + "/image"
    one = changed(linkerd.injected(), put(path, "evil.io/a"))
    other = changed(one, put(path, "evil.io/b"))
    assert broken(judge(other, one)) == ["proxy-image-untrusted"]


def test_an_update_without_an_old_object_is_judged_whole() -> None:
    assert judge(HOST, operation="UPDATE").outcome == "denied"


def test_a_template_is_denied_when_it_changes_and_not_judged_again_while_it_stays() -> None:
    template = {k: HOST[k] for k in ("metadata", "spec")}
    old = strategies.workload("Deployment", template)
    scaled = {**old, "spec": {**old["spec"], "replicas": 2}}
    relabelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    for same in (relabelled, scaled):
        for mode in MODES:
            assert judge(same, old, mode=mode).outcome == "admitted"
    renewed = changed(old, put("/spec/template/metadata/labels/a", "b"))
    assert judge(renewed, old).outcome == "denied"


@pytest.mark.parametrize(
    ("kind", "owner", "outcome"),
    [
        ("ReplicaSet", ("apps/v1", "Deployment"), "ignored"),
        ("Job", ("batch/v1", "CronJob"), "ignored"),
        # Nobody has judged these owners' templates.
        ("ReplicaSet", ("argoproj.io/v1alpha1", "Rollout"), "denied"),
        ("Job", ("privatecloud.mendix.com/v1alpha1", "Build"), "denied"),
        ("Deployment", ("apps/v1", "Deployment"), "denied"),
    ],
)
def test_a_copy_of_a_judged_template_is_not_judged_again(
    kind: str, owner: tuple[str, str], outcome: str
) -> None:
    made = strategies.workload(kind, {k: HOST[k] for k in ("metadata", "spec")})
    version, of = owner
    reference = {"apiVersion": version, "kind": of, "name": "shop", "uid": "1"}
    made["metadata"]["ownerReferences"] = [reference]
    assert judge(made).outcome == "denied"
    made["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    assert judge(made).outcome == outcome


# Modes, levels, exemptions.


def test_a_level_can_be_changed_both_ways() -> None:
    pod = linkerd.injected(put("/spec/serviceAccountName", "default"))
    stricter = settings(levels=[{"check": "shared-identity", "level": "deny", "reason": "ours"}])
    assert broken(judge(pod, given=stricter)) == ["shared-identity"]
    looser = settings(levels=[{"check": "proxy-forged", "level": "warning", "reason": "ours"}])
    verdict = judge(FORGED, given=looser)
    assert (verdict.outcome, broken(verdict, "warning")) == ("admitted", ["proxy-forged"])


def test_a_level_for_some_pods_is_for_those_alone() -> None:
    change = {"check": "host-network", "level": "warning", "reason": "ours",
              "namespaces": ["mendix"], "selector": {"matchLabels": {"app": "dns"}}}  # fmt: skip
    given = settings(levels=[change, {**change, "check": "proxy-missing"}])
    assert judge(HOST, given=given).outcome == "denied"
    assert judge(changed(HOST, label("app", "dns")), given=given).outcome == "admitted"
    other = judge(changed(HOST, label("app", "dns")), given=given, namespace="other")
    assert other.outcome == "denied"


def test_a_missing_proxy_is_not_reported_if_another_violation_explains_it() -> None:
    assert broken(judge(HOST)) == ["host-network"]


def test_a_missing_proxy_is_reported_if_the_other_violation_is_only_advice() -> None:
    given = settings(levels=[{"check": "host-network", "level": "warning", "reason": "ours"}])
    assert broken(judge(HOST, given=given)) == ["proxy-missing"]


def test_an_exemption_of_the_reason_is_enough() -> None:
    verdict = judge(HOST, given=settings(exemptions=[exempt("host-network")]))
    assert verdict.outcome == "exempt"
    assert verdict.violations == ()
    (done,) = verdict.exempted
    assert (done.violation.check, done.exemption.reason) == ("host-network", "agreed")


def test_an_exemption_from_one_check_does_not_exempt_from_another() -> None:
    given = settings(exemptions=[exempt("host-network")])
    pod = changed(HOST, put(APP + "/securityContext/runAsUser", 2102))
    verdict = judge(pod, given=given)
    assert verdict.outcome == "denied"
    assert broken(verdict) == ["proxy-uid"]
    assert [done.violation.check for done in verdict.exempted] == ["host-network"]


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("proxy-brought", annotation(RECORD, "proxy-brought spec.containers[linkerd-proxy]")),
        ("proxy-forged", put(APP + "/image", "cr.l5d.io/linkerd/proxy:edge-26.8.3")),
    ],
)
def test_an_exemption_for_the_content_of_a_pod_does_not_exempt_it_from_having_a_proxy(
    check: str, change: Change
) -> None:
    pod = changed(linkerd.app(), change)
    assert broken(judge(pod)) == [check]
    verdict = judge(pod, given=settings(exemptions=[exempt(check)]))
    assert verdict.outcome == "denied"
    assert broken(verdict) == ["proxy-missing"]
    both = settings(exemptions=[exempt(check), exempt("proxy-missing")])
    assert judge(pod, given=both).outcome == "exempt"


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("proxy-brought", annotation(RECORD, "proxy-brought spec.containers[istio-proxy]")),
        ("proxy-forged", put(APP + "/name", "istio-init")),
        ("status-forged", annotation(istio.STATUS, "{}")),
    ],
)
def test_the_same_holds_of_a_sidecar_that_no_revision_injects(check: str, change: Change) -> None:
    pod = changed(istio.app(), label("istio.io/rev", "not-installed"), change)
    verdict = judge(pod, by="istio", given=settings(exemptions=[exempt(check)]))
    assert verdict.outcome == "denied"
    assert broken(verdict) == ["proxy-missing"]


def test_a_template_is_exempt_by_its_own_labels() -> None:
    given = settings(exemptions=[exempt("host-network", selector={"matchLabels": {"app": "shop"}})])
    obj = strategies.workload("Deployment", {k: HOST[k] for k in ("metadata", "spec")})
    assert judge(obj, given=given).outcome == "exempt"


def test_in_audit_an_exempt_pod_is_exempt_too() -> None:
    given = settings(exemptions=[exempt("host-network")])
    assert judge(HOST, given=given, mode="audit").outcome == "exempt"


# The subject.


@pytest.mark.parametrize(
    ("document", "subject"),
    [
        (HOST, "pod shop (Mendix app)"),
        ({"kind": "Pod", "metadata": {"generateName": "dns-"}, "spec": {}}, "pod dns-*"),
        ({"kind": "Pod", "metadata": {"generateName": "dns-", "name": "dns-x7v2q"}}, "pod dns-*"),
        ({"kind": "Pod"}, "pod without a name"),
        ({"kind": "Pod", "metadata": {"name": "a\nb"}}, "pod a?b"),
        (changed(manifests.app_deployment("shop", "mendix"),
                 put("/spec/template/spec/hostNetwork", True)),
         "deployment shop-master (Mendix app leader)"),
    ],
)  # fmt: skip
def test_the_subject_says_what_was_judged(document: Json, subject: str) -> None:
    assert judge(document).subject == subject


def test_a_pod_that_is_updated_has_its_name() -> None:
    old = changed(linkerd.injected(), put("/metadata/generateName", "sho"),
                  put("/metadata/name", "shox7v2q"))  # fmt: skip
    new = changed(old, drop("/metadata/labels/linkerd.io~1control-plane-ns"))
    assert judge(new, old).subject == "pod shox7v2q (Mendix app)"
