"""The API server's own policies decide as policy does, with no server of ours behind them.

A special pod is sent to the webhook. Here nothing answers, so it is denied as one that needs an
answer. All other pods are ordinary, and their verdict and its checks must be policy's.
"""

import copy
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import given as drawn
from hypothesis import settings as configure

from tests.cluster import engine
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.engine import MESHES
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod
from tests.fixtures.generate import fixtures
from tests.fuzz import edits
from webhook.policy import checks, meshes, messages
from webhook.policy.mesh import ALLOWED, RECORD, Mesh
from webhook.policy.pod.objects import convert
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings, parse
from webhook.policy.validate import Verdict, validate

#: Other settings than the defaults, wherever an expression depends on them.
CUSTOM: Json = {
    "clusterDomain": "cluster.example",
    "linkerd": {
        "proxyImages": ["mirror.example.com/linkerd/proxy", "cr.l5d.io/linkerd/proxy"],
        "inboundPolicy": "all-authenticated",
        "proxyGid": 2103,
        "skipInboundPorts": "4190,4191,4567,4568,25",
    },
    "istio": {"controlPlaneHosts": ["istiod.example.com"], "excludeInboundPorts": "9999"},
    "levels": [
        {"check": "shared-identity", "level": "deny", "reason": "agreed"},
        {"check": "root-capable", "level": "deny", "reason": "agreed", "namespaces": ["engine-*"],
         "selector": {"matchLabels": {"app": "it's"}}},
    ],
    "exemptions": [
        {"checks": ["host-network"], "namespaces": ["engine-*"], "reason": "agreed",
         "selector": {"matchExpressions": [
             {"key": "component", "operator": "NotIn", "values": ["mendix-app"]}]}},
    ],
}  # fmt: skip
#: Every warning denies. A pod that only gets one must not stay ordinary and be admitted.
STRICT: Json = {
    "levels": [
        {"check": entry.check.id, "level": "deny", "reason": "agreed"}
        for entry in checks.all_checks().values()
        if entry.check.level == "warning"
    ]
}
SETTINGS = {"default": {}, "custom": CUSTOM, "strict": STRICT}
PODS = int(os.environ.get("MENDIX_MESH_PODS", "150"))
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


#: What the API server puts before a policy's warning.
_ADVICE = re.compile(
    r"Validation failed for ValidatingAdmissionPolicy 'tests-mendix-mesh-\w+-advice' "
    r"with binding '.*?': "
)


class Answer(NamedTuple):
    """What became of a new pod: `special`, `denied` or `admitted`, with what was said."""

    outcome: str
    said: str


@pytest.fixture(scope="module", params=SETTINGS)
def given(request: pytest.FixtureRequest) -> Json:
    """The settings."""
    return SETTINGS[request.param]


@pytest.fixture(scope="module")
def places(plane: ControlPlane, given: Json) -> Iterator[dict[str, str]]:
    """An enforced namespace of each mesh. `plain` is outside."""
    with engine.installed(plane, KINDS, "ValidatingWebhookConfiguration", given):
        yield namespaces(plane)


def namespaces(plane: ControlPlane) -> dict[str, str]:
    made = {mesh: engine.namespace(plane, mesh) for mesh in MESHES}
    made["plain"] = engine.namespace(plane)
    for where in made.values():
        plane.api.create(core("ServiceAccount", "shop", where))
    for mesh in MESHES:
        new = pod(made[mesh], "probe", labels={"component": "mendix-app"}, hostNetwork=True)
        new["metadata"]["annotations"] = {RECORD: ALLOWED}
        wait_for(
            lambda new=new: answer(plane.api, new).outcome == "denied",  # type: ignore[misc]
            why=f"the policies of {mesh} to be in force",
        )
    return made


def answer(api: Api, new: Json) -> Answer:
    found = engine.needs_server(api, new)
    if isinstance(found, StatusError):
        return Answer("denied", found.message)
    return Answer("special", "") if found else Answer("admitted", "\n".join(api.warnings))


def judged(stored: Json, mesh: str, namespace: str, given: Json) -> Verdict:
    loaded, settings = by_settings(json.dumps(given))
    request = Request(operation="CREATE", object=convert(stored), namespace=namespace)
    return validate(request, loaded[mesh], "enforce", settings)


@functools.cache
def by_settings(given: str) -> tuple[dict[str, Mesh], Settings]:
    settings = parse(json.loads(given), checks=checks.ids())
    return dict(meshes.load(settings)), settings


#: Pods as the API server completes them, by the pod in JSON: they don't depend on the settings.
_COMPLETED: dict[str, Json | None] = {}


def as_stored(api: Api, document: Json, places: dict[str, str], mesh: str) -> Json | None:
    """Return a pod as the API server completes it, for a namespace of the mesh."""
    text = json.dumps(document)
    if text not in _COMPLETED:
        _COMPLETED[text] = completed(api, document, places["plain"])
    stored = copy.deepcopy(_COMPLETED[text])
    if stored:
        stored["metadata"]["namespace"] = places[mesh]
    return stored


def completed(api: Api, document: Json, namespace: str) -> Json | None:
    new = copy.deepcopy(document)
    new["metadata"]["namespace"] = namespace
    new["metadata"].setdefault("annotations", {}).setdefault(RECORD, ALLOWED)
    try:
        stored = api.create(new, dry_run=True)
    except StatusError:
        return None
    for key in ("uid", "creationTimestamp", "managedFields", "resourceVersion"):
        stored["metadata"].pop(key, None)
    stored.pop("status", None)
    return stored


def difference(got: Answer, verdict: Verdict, name: str) -> str:
    """Return how an answer differs from policy's verdict; empty if it does not."""
    if got.outcome == "special":
        return ""
    expected = "denied" if verdict.outcome == "denied" else "admitted"
    if got.outcome != expected:
        return f"{name}: {got.outcome}, policy: {verdict.outcome} {verdict.violations} {got.said}"
    if expected == "admitted":
        said = [text for line in got.said.splitlines() if (text := _ADVICE.sub("", line)) != line]
        wanted = messages.warnings(verdict)
        return "" if said == wanted else f"{name}: warned {said}, policy: {wanted}"
    for one in verdict.violations:
        if one.level != "deny":
            continue
        if f"{one.check} {one.field} {one.reason}; {one.fix}" not in got.said:
            return f"{name}: not said: {one} in {got.said}"
    return ""


def test_every_fixture_gets_policy_s_verdict_or_is_special(
    plane: ControlPlane, places: dict[str, str], given: Json
) -> None:
    counts: Counter[str] = Counter()
    differences = []
    for fixture in fixtures():
        if fixture.mesh not in MESHES:
            continue
        stored = as_stored(plane.api, fixture.documents[-1], places, fixture.mesh)
        if stored is None:
            counts["invalid"] += 1
            continue
        got = answer(plane.api, stored)
        verdict = judged(stored, fixture.mesh, places[fixture.mesh], given)
        counts[f"{fixture.mesh} {(fixture.passes and 'passes') or 'fails'} {got.outcome}"] += 1
        if wrong := difference(got, verdict, f"{fixture.mesh} {fixture.check} {fixture.name}"):
            differences.append(wrong)
    print(counts)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("mesh", MESHES)
def test_random_pods_get_policy_s_verdict_or_are_special(
    plane: ControlPlane, places: dict[str, str], given: Json, mesh: str
) -> None:
    """`MENDIX_MESH_PODS` sets how many of each mesh."""
    pods: list[Json] = []

    @configure(max_examples=PODS, phases=[Phase.generate], database=None, deadline=None,
               derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip
    @drawn(edits.lives(mesh))
    def collect(life: edits.Life) -> None:
        if life.stored is not None:
            pods.append(life.stored)

    collect()
    counts: Counter[str] = Counter()
    differences = []

    def send(document: Json) -> None:
        stored = as_stored(plane.api, document, places, mesh)
        if stored is None:
            counts["invalid"] += 1
            return
        got = answer(plane.api, stored)
        counts[got.outcome] += 1
        if wrong := difference(got, judged(stored, mesh, places[mesh], given), mesh):
            differences.append(f"{wrong}\n{json.dumps(stored)}")

    for one in pods:
        send(one)
        # The same as if nothing had been recorded: then the containers alone have to show it.
        one["metadata"].setdefault("annotations", {})[RECORD] = ALLOWED
        send(one)
    print(mesh, counts)
    assert not differences, f"{len(differences)} differences, the first:\n{differences[0]}"


#: Pods of the largest size of one sort that the API server takes, or nearly.
LARGE: dict[str, Callable[[Json], None]] = {
    "containers": lambda new: new["spec"]["containers"].extend(
        {"name": f"c{number}", "image": "registry.example.com/shop:1"} for number in range(600)
    ),
    "variables": lambda new: new["spec"]["containers"][0].update(
        env=[{"name": f"V{number}", "value": "$(V)" * 20} for number in range(5_000)]
    ),
    "one variable": lambda new: new["spec"]["containers"][0].update(
        env=[{"name": "V", "value": "$(" * 400_000}]
    ),
    "annotations": lambda new: new["metadata"]["annotations"].update(
        {f"config.linkerd.io/x{number}": "," * 200 for number in range(900)}
    ),
    "one annotation": lambda new: new["metadata"]["annotations"].update(
        {"config.linkerd.io/opaque-ports": "1," * 100_000}
    ),
    "labels": lambda new: new["metadata"].update(
        labels={f"x.istio.io/{number}": "x" * 60 for number in range(3_000)}
    ),
    "volumes": lambda new: new["spec"].update(
        volumes=[{"name": f"v{number}", "emptyDir": {}} for number in range(3_000)]
    ),
    "owners": lambda new: new["metadata"].update(
        ownerReferences=[{"apiVersion": "v1", "kind": "k" * 200, "name": "n" * 200,
                          "uid": str(number)} for number in range(2_500)]),
    "arguments": lambda new: new["spec"].update(
        initContainers=[{"name": name, "image": "proxy:1", "args": ["\\n" * 9] * 9_000}
                        for name in ("linkerd-init", "istio-init")]),
    "capabilities": lambda new: new["spec"]["containers"][0].update(
        securityContext={"capabilities": {"add": ["NET_ADMIN"] * 20_000}}
    ),
    "ports": lambda new: new["spec"]["containers"][0].update(
        ports=[{"containerPort": 1 + number, "protocol": "UDP"} for number in range(5_000)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("given", ["default"], indirect=True)
@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("mesh", MESHES)
def test_no_pod_is_too_large_for_the_expressions(
    plane: ControlPlane, places: dict[str, str], given: Json, mesh: str, what: str
) -> None:
    """An expression that costs too much would deny the pod, in every mode."""
    new = pod("", "large", annotations={RECORD: ALLOWED})
    LARGE[what](new)
    stored = as_stored(plane.api, new, places, mesh)
    assert stored, "the API server itself does not take it"
    got = answer(plane.api, stored)
    assert "cost" not in got.said, got.said[:300]
    if got.outcome != "special":
        assert not difference(got, judged(stored, mesh, places[mesh], given), what)


HOST = "istiod.istio-system.svc"
overrides = pytest.mark.kubernetes("1.35", reason="hostnameOverride of pods")


@pytest.mark.parametrize("given", ["default"], indirect=True)
@pytest.mark.parametrize(
    ("name", "override"), [(HOST, None), pytest.param("shop", HOST, marks=overrides)]
)
@pytest.mark.parametrize("mesh", MESHES)
def test_a_pod_that_moves_the_names_of_the_control_plane_is_special(
    plane: ControlPlane, places: dict[str, str], given: Json, mesh: str, name: str,
    override: str | None,
) -> None:  # fmt: skip
    new = pod(places[mesh], name, annotations={RECORD: ALLOWED}, hostnameOverride=override)
    assert answer(plane.api, new).outcome == "special"
