"""proxy-brought: who brought the proxy, told before the injector runs and kept as a mark."""

import pytest

from tests.fixtures.changes import RECORD, PROXY, Change, annotation, brought, changed, drop, put
from tests.fixtures.meshes import istio, linkerd
from tests.unit.policy import strategies
from tests.unit.policy.judge import Json, broken, judge, patch_for, settings
from webhook.policy.validate import Verdict

BY = {"linkerd": linkerd, "istio": istio}
NETWORKS = linkerd.variable("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", "127.0.0.0/8")
#: A proxy in which every other check finds nothing wrong.
BY_HAND = changed(linkerd.injected(), NETWORKS)
MARKED = changed(BY_HAND, brought("linkerd-init", "linkerd-proxy"))


def mark_of(pod: Json, by: str) -> str | None:
    """The mark that mutation adds to a pod, if it adds any."""
    path = "/metadata/annotations/mendix-mesh.io~1brought-proxy"
    values = [one["value"] for one in patch_for(pod, by=by) if one["path"] == path]
    return values[0] if values else None


def places(verdict: Verdict) -> list[str]:
    return [v.field for v in verdict.violations if v.check == "proxy-brought"]


def deployment(pod: Json) -> Json:
    return strategies.workload("Deployment", {key: pod[key] for key in ("metadata", "spec")})


def test_without_a_mark_nothing_tells_a_pod_made_by_hand_from_an_injected_one() -> None:
    assert judge(BY_HAND).outcome == "admitted"
    assert broken(judge(MARKED)) == ["proxy-brought"]


@pytest.mark.parametrize(
    ("by", "pod", "names"),
    [
        ("linkerd", linkerd.injected(), "linkerd-init,linkerd-proxy"),
        ("linkerd", linkerd.injected(config=linkerd.CLASSIC), "linkerd-init,linkerd-proxy"),
        ("linkerd", linkerd.injected(config=linkerd.CNI),
         "linkerd-network-validator,linkerd-proxy"),
        ("istio", istio.injected(), "istio-init,istio-proxy"),
        ("istio", istio.injected(config=istio.CNI), "istio-proxy,istio-validation"),
    ],
)  # fmt: skip
def test_what_a_pod_brings_is_named_before_the_injector_runs(
    by: str, pod: Json, names: str
) -> None:
    assert mark_of(pod, by) == names
    for presets in (annotation(RECORD, ""), annotation(RECORD, "mendix")):
        assert mark_of(changed(pod, presets), by) == names


def test_an_opt_out_hides_nothing() -> None:
    out = changed(BY_HAND, annotation(linkerd.INJECT, "disabled"))
    assert mark_of(out, "linkerd") == "linkerd-init,linkerd-proxy"
    label = put("/metadata/labels/sidecar.istio.io~1inject", "false")
    assert mark_of(changed(istio.injected(), label), "istio") == "istio-init,istio-proxy"


@pytest.mark.parametrize(
    ("by", "pod"),
    [
        ("linkerd", linkerd.app()),
        ("linkerd", changed(linkerd.app(), put("/spec/containers/0/name", "linkerd-debug"))),
        ("istio", istio.app()),
        ("istio", changed(istio.app(), istio.customised(env=[{"name": "A", "value": "b"}]))),
        ("istio", changed(istio.app(), put("/spec/initContainers", [
            {"name": "istio-init", "image": "auto"}]))),
        ("istio", istio.waypoint()),
        ("istio", istio.gateway()),
        ("ambient", istio.injected()),
        ("unknown", linkerd.injected()),
    ],
)  # fmt: skip
def test_nothing_is_marked_that_the_injector_fills_in_or_that_is_the_mesh_s_own(
    by: str, pod: Json
) -> None:
    assert mark_of(pod, by) is None


def test_a_gateway_before_its_injection_is_neither_marked_nor_refused() -> None:
    only = put("/spec/containers", [{"name": "istio-proxy", "image": "auto"}])
    pod = changed(istio.app(), annotation(istio.TEMPLATES, "gateway"), only)
    assert mark_of(pod, "istio") is None
    assert places(judge(pod, by="istio", final=False)) == []
    assert places(judge(deployment(pod), by="istio")) == []


@pytest.mark.parametrize("by", BY)
def test_a_template_is_told_at_once_and_needs_no_mark(by: str) -> None:
    obj = deployment(BY[by].injected())
    assert mark_of(obj, by) is None
    verdict = judge(obj, by=by)
    assert verdict.outcome == "denied"
    where = "spec.template.spec.initContainers"
    assert places(verdict) == [f"{where}[0]", f"{where}[1]"]


def test_a_template_that_had_its_proxy_before_is_refused_when_it_changes() -> None:
    old = deployment(BY_HAND)
    scaled = {**old, "spec": {**old["spec"], "replicas": 2}}
    assert judge(scaled, old).allowed
    renewed = changed(old, put("/spec/template/metadata/labels/a", "b"))
    assert judge(renewed, old).outcome == "denied"
    mended = changed(old, drop("/spec/template/spec/initContainers"))
    assert judge(mended, old).outcome == "admitted"


@pytest.mark.parametrize(
    "change",
    [
        annotation(RECORD, "linkerd-proxy"),
        put("/metadata/labels/team", "shop"),
        put(PROXY + "/image", "cr.l5d.io/linkerd/proxy:edge-26.8.4"),
    ],
)
def test_a_mark_that_is_written_later_says_nothing(change: Change) -> None:
    for old in (linkerd.injected(), MARKED):
        assert judge(changed(old, change), old).allowed
    unmarked = drop("/metadata/annotations/mendix-mesh.io~1brought-proxy")
    assert judge(changed(MARKED, unmarked), MARKED).outcome == "admitted"


def test_a_mark_of_nothing_harms_its_author_alone() -> None:
    pod = changed(linkerd.app(), brought("linkerd-proxy"))
    assert patch_for(pod) == []
    field = f"metadata.annotations[{RECORD}]"
    assert places(judge(pod, final=False)) == [field]
    assert places(judge(deployment(pod))) == [f"spec.template.{field}"]
    (violation,) = judge(pod, final=False).violations
    assert violation.fix == "remove the annotation"


def test_a_running_pod_tells_that_it_came_in_so_and_by_which_exemption() -> None:
    assert places(judge(MARKED, stored=True)) == [
        "spec.initContainers[0]",
        "spec.initContainers[1]",
    ]
    exempt = settings(
        exemptions=[
            {
                "checks": ["proxy-brought"],
                "namespaces": ["mendix"],
                "selector": {
                    "matchExpressions": [{"key": "velero.io/restore-name", "operator": "Exists"}]
                },
                "reason": "restored as it ran",
            }
        ]
    )
    restored = changed(MARKED, put("/metadata/labels/velero.io~1restore-name", "monday"))
    for stored in (True, False):
        verdict = judge(restored, given=exempt, stored=stored)
        assert (verdict.outcome, len(verdict.exempted)) == ("exempt", 2)
        assert judge(MARKED, given=exempt, stored=stored).outcome == "denied"


def test_a_container_that_keeps_the_injector_away_explains_why_there_is_no_proxy() -> None:
    """linkerd-init alone: the injector skips the pod, which is said once."""
    alone = put("/spec/initContainers", [{"name": "linkerd-init", "image": "x"}])
    pod = changed(linkerd.app(), alone, brought("linkerd-init"))
    assert broken(judge(pod)) == ["proxy-brought", "proxy-forged", "proxy-image-untrusted"]
