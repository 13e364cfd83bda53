"""The chart's conditions at the real API server, with no server behind them.

An update that needs an answer is denied, because nothing answers. So a denial shows that the
condition is true. The same updates go through a copy of the condition in Python, which
tests/unit/policy/test_judged.py compares with policy.
"""

import copy
import random
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.chart import helm
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod, workload
from tests.fixtures.meshes import ambient
from tests.fuzz import edits
from tests.unit.policy.test_judged import DEAL, JUDGED, MESHES, OTHERS
from tests.unit.policy.touched import touched

LABEL = "tests.mendix-mesh.io/conditions"
#: Labels that the settings below select pods by.
SELECTED = ("app", "tier", "istio.io/rev")
SETTINGS: Json = {
    "allow": [{**DEAL, "outboundPorts": "25", "selector": {"matchLabels": {"app": "dns"}}}],
    "exemptions": [{**DEAL, "checks": ["host-network"], "selector": {
        "matchExpressions": [{"key": "tier", "operator": "Exists"},
                             {"key": "istio.io/rev", "operator": "Exists"}]}}],
}  # fmt: skip
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
OLD_PODS, UPDATES = 40, 30
#: A pod of the highest number of labels, annotations and containers that policy reads.
MOST_KEYS, MOST_CONTAINERS = 1_000, 500


class Place(NamedTuple):
    """A namespace of a mesh, in which updates that need an answer are denied."""

    mesh: str
    namespace: str


def unanswered(mesh: str, values: Json, operations: tuple[str, ...]) -> Json:
    """Return the chart's entry for a mesh in mode enforce, for our own namespaces and no server."""
    configuration = helm.render(values).one("ValidatingWebhookConfiguration")
    entry: Json
    (entry,) = (
        one for one in configuration["webhooks"] if one["name"] == f"{mesh}.enforce.mendix-mesh.io"
    )
    entry["rules"] = [
        {**rule, "operations": kept}
        for rule in entry["rules"]
        if (kept := [one for one in operations if one in rule["operations"]])
    ]
    entry |= {
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchLabels": {LABEL: mesh}},
    }
    return entry


@pytest.fixture(scope="module")
def config(plane: ControlPlane) -> Iterator[Callable[..., None]]:
    """Return what puts the entries of all meshes into force."""
    name = f"unanswered-{secrets.token_hex(3)}"

    def install(values: Json, *operations: str) -> None:
        webhooks = [unanswered(mesh, values, operations) for mesh in MESHES]
        kind = "ValidatingWebhookConfiguration"
        made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
        plane.api.patch(
            kind, name, None, {**made, "metadata": {"name": name}, "webhooks": webhooks},
            how="apply",
        )  # fmt: skip

    yield install
    plane.api.delete("ValidatingWebhookConfiguration", name)


@pytest.fixture(scope="module", params=MESHES)
def place(
    plane: ControlPlane, config: Callable[..., None], request: pytest.FixtureRequest
) -> Place:
    mesh: str = request.param
    where = plane.new_namespace("conditions", labels={LABEL: mesh})
    config({"settings": SETTINGS}, "UPDATE")
    plane.api.create(parked(where, "probe"))
    judged = {"metadata": {"annotations": {"linkerd.io/inject": "x"}}}
    wait_for(
        lambda: is_called(lambda: plane.api.patch("Pod", "probe", where, judged, dry_run=True)),
        why="the conditions to be in force",
    )
    return Place(mesh, where)


def parked(where: str, name: str, **more: Any) -> Json:
    """Return a pod that stays pending, so that only the test writes it."""
    return pod(where, name, schedulerName="nobody", **more)


def is_called(write: Callable[[], object]) -> bool:
    """Return whether a write needs an answer of the webhook. It must have no other problem."""
    try:
        write()
    except StatusError as error:
        # The write may have another problem, and an error or too high a cost is also a denial.
        if "failed calling webhook" in error.message and "connection refused" in error.message:
            return True
        raise
    return False


def marks(chance: random.Random, place: str, most: int) -> Json:
    """Draw labels or annotations: of the meshes, of others, and those that settings name."""
    own = edits.LABEL_KEYS if place == "labels" else edits.KEYS
    free = sorted({key for one in JUDGED.values() for key in one.labels.free})
    known = [*own, *OTHERS, *OTHERS, *SELECTED, *free, ambient.REDIRECTION, "prometheus-io-x",
             "prometheus_istio_io_x", "prometheusXio_x"]  # fmt: skip
    values = ("", "true", "false", "enabled", "x")
    found = {chance.choice(known): chance.choice(values) for _ in range(chance.randint(0, most))}
    if DELETION_COST in found:  # the API server checks it
        found[DELETION_COST] = chance.choice("123")
    return found


def drawn(chance: random.Random, old: Json) -> tuple[Json, str]:
    """Draw a merge patch of a stored pod, and the subresource to which it is sent."""
    patch: Json = {"metadata": {}}
    for place in ("labels", "annotations"):
        changed = marks(chance, place, 1)
        kept = list(old["metadata"].get(place) or ())
        if kept and chance.random() < 0.3:
            changed[chance.choice(kept)] = None
        if changed:
            patch["metadata"][place] = changed
    subresource = chance.choice(("", "", "status"))
    if subresource:
        return patch, subresource
    how = chance.randint(0, 6)
    if how == 0:
        (app,) = old["spec"]["containers"]
        patch["spec"] = {"containers": [{**app, "image": chance.choice(("a", app["image"]))}]}
    if how == 1:
        patch["spec"] = {"activeDeadlineSeconds": chance.randint(1, 99)}
    if how == 2:
        more = {"key": "a", "operator": "Exists", "effect": "NoSchedule"}
        patch["spec"] = {"tolerations": [*old["spec"]["tolerations"], more]}
    if how == 3:
        owner = {"apiVersion": "apps/v1", "kind": "X", "name": "$(x", "uid": "1"}
        patch["metadata"]["ownerReferences"] = [owner]
    if how == 4:
        patch["metadata"]["finalizers"] = ["tests.mendix-mesh.io/held"]
    return patch, subresource


def merged(old: Json, patch: Json) -> Json:
    """Return what a merge patch makes of an object."""
    new = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merged(new.get(key) or {}, value)
        else:
            new[key] = value
    return new


@pytest.mark.timeout(300)
def test_the_conditions_are_true_if_their_copy_in_python_is(
    plane: ControlPlane, place: Place
) -> None:
    api, chance, called = plane.api, random.Random(f"conditions {place.mesh}"), [0, 0]
    for number in range(OLD_PODS):
        labels, annotations = (marks(chance, kind, 6) for kind in ("labels", "annotations"))
        old = api.create(
            parked(place.namespace, f"p{number}", labels=labels, annotations=annotations)
        )
        for _ in range(UPDATES):
            patch, subresource = drawn(chance, old)
            expected = touched(
                old, merged(old, patch), JUDGED[place.mesh], selected=SELECTED,
                subresource=subresource,
            )  # fmt: skip
            found = is_called(lambda: send(api, place, old, patch, subresource))  # noqa: B023
            assert found == expected, (old["metadata"], patch, subresource)
            called[found] += 1
    assert min(called) > OLD_PODS * UPDATES / 10, called


def send(api: Api, place: Place, old: Json, patch: Json, subresource: str = "") -> Json:
    name = old["metadata"]["name"]
    return api.patch("Pod", name, place.namespace, patch, subresource=subresource, dry_run=True)


def test_a_debug_container_is_judged(plane: ControlPlane, place: Place) -> None:
    container = {"name": "debugger", "image": "busybox"}
    patch = {"spec": {"ephemeralContainers": [container]}}
    assert is_called(
        lambda: plane.api.patch(
            "Pod", "probe", place.namespace, patch, how="strategic",
            subresource="ephemeralcontainers", dry_run=True,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def largest(plane: ControlPlane, place: Place) -> Json:
    """A pod that policy can just read: keys, containers and variables."""
    size = 1_000_000 // MOST_CONTAINERS
    env = [{"name": f"V{n}", "value": "v" * 20} for n in range(size // 60)]
    containers = [{"name": f"c{n}", "image": "app", "env": env} for n in range(MOST_CONTAINERS)]
    labels, annotations = long_keys("a"), long_keys("a", value="x" * 15)
    made = parked(
        place.namespace, "largest", labels=labels, annotations=annotations, containers=containers
    )
    return plane.api.create(made)


def long_keys(letter: str, start: str = "", *, value: str = "") -> Json:
    """Return as many labels or annotations as policy reads, with keys of the greatest length."""
    domain = ".".join([letter * 60] * 3)
    return {f"{start or domain}/{number:060}": value for number in range(MOST_KEYS)}


@pytest.mark.timeout(120)
def test_the_largest_pod_costs_less_than_the_api_server_allows(
    plane: ControlPlane, place: Place, largest: Json
) -> None:
    """Every key changes, and every list of containers, so nothing ends the comparison early."""
    api, gone = plane.api, dict.fromkeys(largest["metadata"]["labels"])
    foreign: Json = {
        "metadata": {
            "labels": {**gone, **long_keys("b")},
            "annotations": {**gone, **long_keys("b", value="y" * 15)},
        }
    }
    assert not is_called(lambda: send(api, place, largest, foreign))
    for start, called in (
        ("prometheus.istio.io.example.com", place.mesh != "linkerd"),
        ("istio.io.b", False),
    ):
        foreign["metadata"]["annotations"] = {**gone, **long_keys("", start)}
        assert is_called(lambda: send(api, place, largest, foreign)) == called
    containers = copy.deepcopy(largest["spec"]["containers"])
    containers[-1]["image"] = "other"
    assert is_called(lambda: send(api, place, largest, {"spec": {"containers": containers}}))


# Controllers.


@pytest.fixture(scope="module")
def templates(plane: ControlPlane, config: Callable[..., None]) -> str:
    """A namespace of Linkerd in which new and changed templates are denied."""
    where = plane.new_namespace("templates", labels={LABEL: "linkerd"})
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"):
        # Their controllers must not write to them during the test.
        plane.api.create(workload(kind, where, kind.lower(), replicas=0, schedulerName="nobody"))
    config({"reviewMeshPolicies": True}, "CREATE", "UPDATE")
    wait_for(
        lambda: is_called(lambda: plane.api.create(workload("Job", where, "new"), dry_run=True)),
        why="the conditions to be in force",
    )
    return where


@pytest.mark.parametrize(
    "kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob"]
)
def test_an_update_that_leaves_the_template_alone_is_not_judged(
    plane: ControlPlane, templates: str, kind: str
) -> None:
    def called(patch: Json) -> bool:
        return is_called(
            lambda: plane.api.patch(
                kind, kind.lower(), templates, patch, how="strategic", dry_run=True
            )
        )

    assert not called(
        {"metadata": {"labels": {"team": "shop"}, "annotations": {"linkerd.io/x": "y"}}}
    )
    assert not called({"metadata": {"finalizers": ["tests.mendix-mesh.io/held"]}})
    if kind == "CronJob":
        assert not called({"spec": {"suspend": True}})
        assert not called({"spec": {"jobTemplate": {"spec": {"backoffLimit": 3}}}})
    elif kind != "DaemonSet":
        assert not called({"spec": {"replicas": 1}})
    template = {"metadata": {"annotations": {"note": "new"}}}
    new = {"template": template}
    assert called({"spec": {"jobTemplate": {"spec": new}} if kind == "CronJob" else new})


@pytest.mark.parametrize(
    ("kind", "owner", "called"),
    [
        ("ReplicaSet", ("apps/v1", "Deployment", True), False),
        ("Job", ("batch/v1", "CronJob", True), False),
        ("Job", ("batch/v1", "CronJob", False), True),
        ("Job", ("batch/v1", "CronJob", None), True),
        ("ReplicaSet", ("argoproj.io/v1alpha1", "Rollout", True), True),
        ("Job", ("privatecloud.mendix.com/v1alpha1", "Build", True), True),
        ("Deployment", ("apps/v1", "Deployment", True), True),
        ("ReplicaSet", None, True),
        ("Job", None, True),
    ],
    ids=str,
)
def test_a_copy_of_a_judged_template_is_not_judged_again(
    plane: ControlPlane, templates: str, kind: str, owner: Any, called: bool
) -> None:
    made = workload(kind, templates, "copy")
    if owner:
        version, of, controller = owner
        reference = {"apiVersion": version, "kind": of, "name": "shop", "uid": "1"}
        reference |= {} if controller is None else {"controller": controller}
        made["metadata"]["ownerReferences"] = [reference]
    assert is_called(lambda: plane.api.create(made, dry_run=True)) == called


def test_of_a_namespace_only_the_policy_for_new_pods_is_judged(
    plane: ControlPlane, templates: str
) -> None:
    def called(patch: Json) -> bool:
        return is_called(lambda: plane.api.patch("Namespace", templates, None, patch, dry_run=True))

    for key in ("note", "linkerd.io/inject", "config.linkerd.io/proxy-cpu-limit"):
        assert not called({"metadata": {"annotations": {key: "x"}}})
    assert not called({"metadata": {"labels": {"team": "shop"}}})
    policy = "config.linkerd.io/default-inbound-policy"
    assert called({"metadata": {"annotations": {policy: "deny"}}})
