"""In which state a live pod is, and how it came to be so."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.changes import annotation, changed, drop, put
from tests.unit.cluster.world import AFTER, BEFORE, LABELLED, Json, World, fixture, meshed, unmeshed
from tests.unit.policy.judge import settings
from webhook.cluster.judge import Judge, Judged, Origin, State
from webhook.cluster.judge.outdated import CurrentProxies, proxy_of
from webhook.cluster.kinds.inventory import decode
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy.settings import Settings
from webhook.policy.validate import Mode

REDIRECTION = "ambient.istio.io/redirection"
SINCE = datetime.datetime.fromisoformat(LABELLED)
DEFAULTS = Settings()


def judge(
    pod: Json,
    mesh: str = "linkerd",
    *,
    mode: Mode = "enforce",
    given: Settings = DEFAULTS,
    created: str = AFTER,
    since: datetime.datetime | None = SINCE,
) -> Judged:
    live = decode(json.dumps(World().pod("mendix", "shop-1", pod, created=created)).encode())
    return Judge(given).judge(live, Enrolled(mesh, mode, ingress=False, since=since))


def checks(judged: Judged, level: str = "deny") -> set[str]:
    return {violation.check for violation in judged.violations if violation.level == level}


@pytest.mark.parametrize("mesh", ["linkerd", "istio", "ambient"])
def test_a_pod_with_its_mesh_is_meshed(mesh: str) -> None:
    judged = judge(meshed(mesh), mesh)
    assert (judged.state, judged.origin, checks(judged)) == ("meshed", "", set())


@pytest.mark.parametrize("mesh", ["linkerd", "istio", "ambient"])
def test_a_pod_without_its_mesh_is_unmeshed(mesh: str) -> None:
    judged = judge(unmeshed(mesh), mesh)
    assert judged.state == "unmeshed"
    assert "proxy-missing" in checks(judged)


@pytest.mark.parametrize(
    ("check", "name", "state"),
    [
        ("capture-bypassed", "linkerd-skip-outbound-ports", "partly"),
        ("foreign-mesh", "linkerd-istio-label", "partly"),
        ("proxy-forged", "linkerd-name-alone", "unmeshed"),
        ("host-network", "linkerd-host-network", "unmeshed"),
    ],
)
def test_a_proxy_past_which_something_goes_is_there_in_part(
    check: str, name: str, state: State
) -> None:
    judged = judge(fixture(check, name))
    assert judged.state == state
    assert check in checks(judged)


@pytest.mark.parametrize(
    ("ready", "phase", "state"),
    [
        (True, "Running", "meshed"),
        (False, "Running", "unknown"),
        # It has not started yet, so its spec is the evidence.
        (False, "Pending", "meshed"),
    ],
)
@pytest.mark.parametrize("place", ["initContainerStatuses", "containerStatuses"])
def test_a_proxy_that_is_not_ready_leaves_it_unknown(
    ready: bool, phase: str, state: State, place: str
) -> None:
    pod = {**meshed(), "status": {"phase": phase, "initContainerStatuses": [],
                                  "containerStatuses": []}}  # fmt: skip
    pod["status"][place] = [{"name": "linkerd-proxy", "ready": ready}]
    judged = judge(pod)
    assert judged.state == state
    assert ("proxy-not-ready" in checks(judged, "warning")) is (state == "unknown")


@pytest.mark.parametrize(
    ("redirection", "state", "check"),
    [(None, "unmeshed", "not-redirected"), ("pending", "unknown", "redirection-pending"),
     ("enabled", "meshed", None)],
)  # fmt: skip
def test_in_ambient_mode_the_nodes_agent_has_the_last_word(
    redirection: str | None, state: State, check: str | None
) -> None:
    pod = meshed("ambient")
    del pod["metadata"]["annotations"][REDIRECTION]
    if redirection:
        pod["metadata"]["annotations"][REDIRECTION] = redirection
    judged = judge(pod, "ambient")
    assert judged.state == state
    found = checks(judged) | checks(judged, "warning")
    assert not check or check in found


@pytest.mark.parametrize(
    ("ready", "state", "advice"), [(True, "meshed", set()), (False, "unknown", {"proxy-not-ready"})]
)
def test_ambients_gateways_are_judged_by_their_own_proxy(
    ready: bool, state: State, advice: set[str]
) -> None:
    """No node redirects them: they opt out of it, and speak mutual TLS themselves."""
    pod = fixture("opted-out", "ambient-waypoint", passing=True)
    pod["status"] = {"containerStatuses": [{"name": "istio-proxy", "ready": ready}]}
    judged = judge(pod, "ambient")
    assert (judged.state, checks(judged)) == (state, set())
    assert checks(judged, "warning") & {"proxy-not-ready", "redirection-pending"} == advice


def test_ambients_gateway_with_an_app_beside_it_is_not_a_gateway() -> None:
    app = {"name": "app", "image": "registry.example.com/shop:1"}
    pod = changed(fixture("opted-out", "ambient-waypoint", passing=True),
                  put("/spec/containers/-", app))  # fmt: skip
    assert judge(pod, "ambient").state == "unmeshed"


def test_a_pod_that_no_agent_has_seen_yet_is_judged_by_its_label() -> None:
    pod = changed({**meshed("ambient"), "status": {"phase": "Pending"}},
                  drop("/metadata/annotations"), put("/metadata/annotations", {}))  # fmt: skip
    assert judge(pod, "ambient").state == "meshed"


def exempt(*ids: str) -> Settings:
    rule = {"checks": list(ids), "namespaces": ["*"], "reason": "legacy, until it is replaced"}
    return settings(exemptions=[rule])


def test_an_exemption_makes_it_exempt_and_is_reported() -> None:
    judged = judge(unmeshed(), given=exempt("proxy-missing"))
    assert judged.state == "exempt"
    (done,) = judged.exempted
    assert done.exemption.reason == "legacy, until it is replaced"


def test_a_level_that_is_lowered_does_not_make_a_pod_meshed() -> None:
    lowered = settings(levels=[{"check": "proxy-missing", "level": "warning", "reason": "try-out"}])
    judged = judge(unmeshed(), given=lowered)
    assert judged.state == "unmeshed"
    assert checks(judged) == set()


def test_in_an_unknown_mesh_the_state_is_unknown() -> None:
    judged = judge(meshed(), "linkred")
    assert (judged.state, checks(judged)) == ("unknown", {"unknown-mesh"})


@pytest.mark.parametrize(
    ("created", "mode", "since", "origin"),
    [
        (BEFORE, "enforce", SINCE, "before-enrollment"),
        (LABELLED, "enforce", SINCE, "before-enrollment"),
        (AFTER, "enforce", SINCE, "escaped"),
        (AFTER, "warn", SINCE, "admitted"),
        (AFTER, "enforce", None, ""),
    ],
)
def test_pods_from_before_the_enrollment_are_distinguished_from_those_that_escaped(
    created: str, mode: Mode, since: datetime.datetime | None, origin: Origin
) -> None:
    assert judge(unmeshed(), mode=mode, created=created, since=since).origin == origin


def test_an_ingress_controllers_pod_is_judged_as_one() -> None:
    pod = changed(meshed(), annotation("linkerd.io/inject", "ingress"))
    pod = json.loads(json.dumps(pod))
    enrolled: Any = Enrolled("linkerd", "enforce", ingress=True, since=SINCE)
    live = decode(json.dumps(World().pod("edge", "nginx-1", pod)).encode())
    assert Judge(DEFAULTS).judge(live, enrolled).state == "meshed"
    assert judge(pod).state == "partly"


@pytest.mark.parametrize("declared", ["1.31.0", "1.31.0-distroless"])
@pytest.mark.parametrize("has", ["1.31.0", "1.31.0-distroless", "1.31.0-debug", "1.30.1-debug"])
def test_variants_of_istios_image_are_one_version(tmp_path: Path, declared: str, has: str) -> None:
    image = put("/spec/initContainers/1/image", f"docker.io/istio/proxyv2:{has}")
    world, made = World(), changed(meshed("istio"), image)
    values = json.dumps({"global": {"tag": declared}})
    world.config_map("istio-system", "istio-sidecar-injector", values=values)
    pod = judge(made, "istio").pod
    proxy = proxy_of(pod) if pod else None
    assert proxy
    with world.serving(tmp_path) as server:
        current = CurrentProxies(server.cluster, DEFAULTS)
        current.saw(decode(json.dumps(world.pod("mendix", "shop", made)).encode()), proxy)
    assert bool(list(current.stale(proxy))) == has.startswith("1.30")
