"""The evidence of each pod of a workload."""

import datetime

import msgspec

from tests.unit.cluster.world import Json, fixture, meshed, owned, unmeshed
from webhook.cluster.dashboard import pods
from webhook.cluster.dashboard.live import Pods
from webhook.cluster.judge import Judge, Judged
from webhook.cluster.kinds.inventory import BadPod, LivePod, Workload, decode
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy.settings import Settings

SHOP = Workload("mendix", "apps/v1", "Deployment", "shop")
ENROLLED = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
JUDGE = Judge(Settings())


def views(*given: Json, mesh: str = "linkerd", is_enrolled: bool = True) -> list[pods.View]:
    enrolled = Enrolled(mesh, "enforce", ingress=False, since=ENROLLED)
    found: list[tuple[LivePod | BadPod, Judged | None]] = []
    for number, one in enumerate(given):
        one["metadata"] |= {
            "name": f"pod-{number}", "namespace": "mendix",
            "creationTimestamp": "2026-03-01T11:00:00Z",
        }  # fmt: skip
        status = one.setdefault("status", {})
        status.setdefault("phase", "Running")
        pod = decode(msgspec.json.encode(one))
        found.append((pod, JUDGE.judge(pod, enrolled)))
    return pods.views(Pods(enrolled, is_enrolled, found, ""), SHOP, JUDGE)


def facts(view: pods.View) -> dict[str, tuple[str, str]]:
    return {fact.name: (fact.value, fact.state) for fact in view.facts}


def ready(pod: Json) -> Json:
    names = ["linkerd-proxy", "istio-proxy"]
    pod["status"] = {"initContainerStatuses": [{"name": name, "ready": True} for name in names]}
    return pod


def test_those_outside_come_first() -> None:
    found = views(
        ready(owned(meshed(), "Deployment", "shop")), owned(unmeshed(), "Deployment", "shop")
    )
    assert [one.state for one in found] == ["unmeshed", "meshed"]


def test_an_opt_out_and_a_missing_opt_in_are_seen() -> None:
    out = unmeshed()
    out["metadata"]["annotations"] = {"linkerd.io/inject": "disabled"}
    asks_nothing = unmeshed()
    asks_nothing["metadata"].pop("annotations", None)
    values = [facts(view)["Opt-in"] for view in views(out, asks_nothing)]
    assert values[0][0].startswith(
        "asks to stay outside the mesh: metadata.annotations[linkerd.io/inject]"
    )
    assert values[1] == ("missing: linkerd.io/inject: enabled", "unmeshed")


def test_in_ambient_mode_the_nodes_agent_tells() -> None:
    redirected, not_redirected = meshed("ambient"), meshed("ambient")
    not_redirected["metadata"]["annotations"].pop("ambient.istio.io/redirection")
    shown = [facts(view) for view in views(redirected, not_redirected, mesh="ambient")]
    assert {one["Redirection"][1] for one in shown} == {"meshed", "unmeshed"}
    assert all("Proxy" not in one for one in shown)


def test_a_restart_is_advised_only_if_the_namespace_is_enrolled() -> None:
    for is_enrolled, typed in ((True, "mendix-mesh restart -n mendix"), (False, "")):
        pod = meshed("ambient")
        pod["metadata"]["annotations"].pop("ambient.istio.io/redirection")
        (view,) = views(pod, mesh="ambient", is_enrolled=is_enrolled)
        commands = {one.violation.check: one.command for one in view.troubles}
        assert commands["not-redirected"] == typed


def test_of_ambients_own_gateway_its_proxy_tells() -> None:
    waypoint = fixture("opted-out", "ambient-waypoint", passing=True)
    waypoint["status"] = {"containerStatuses": [{"name": "istio-proxy", "ready": True}]}
    (view,) = views(waypoint, mesh="ambient")
    assert view.state == "meshed"
    shown = facts(view)
    assert shown["Proxy"] == ("istio-proxy, container", "meshed")
    assert shown["Proxy ready"] == ("yes", "meshed")
    assert "Redirection" not in shown


def test_of_an_unknown_mesh_nothing_is_claimed() -> None:
    (view,) = views(meshed(), mesh="unknown")
    assert (view.state, view.facts) == ("unknown", [])


def test_a_pod_that_cannot_be_read_says_so() -> None:
    enrolled = Enrolled("linkerd", "enforce", ingress=False, since=None)
    found = Pods(enrolled, True, [(BadPod("mendix", "odd", "labels: expected object"), None)], "")
    (view,) = pods.views(found, SHOP, JUDGE)
    assert view.state == "unknown"
    assert "expected object" in view.troubles[0].violation.reason
