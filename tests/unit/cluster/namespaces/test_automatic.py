"""Which Mendix namespaces are enrolled without a command, and in which mesh."""

from typing import Any

import msgspec
import pytest

from tests.unit.cluster.world import CONFIGURATION, MESH, MODE, World
from webhook.cluster.kinds.inventory import Namespace
from webhook.cluster.kinds.webhooks import INJECTORS, ClientConfig, Webhook, WebhookEntry
from webhook.cluster.namespaces.automatic import Choice, State, decide
from webhook.cluster.namespaces.enrollment import ENROLLED_AT, Enrollment
from webhook.policy.settings import Expression, Selector

LINKERD, ISTIO = {"linkerd.io/inject": "enabled"}, {"istio-injection": "enabled"}
WEBHOOKS, NAME = "config.linkerd.io/admission-webhooks", "kubernetes.io/metadata.name"
SELECTOR = Selector(match_expressions=[
    Expression(key=key, operator="NotIn", values=["disabled", "gone", "cert-manager"])
    for key in (WEBHOOKS, NAME, "istio.io/rev")
])  # fmt: skip
MUTATING = [
    WebhookEntry("injector", {}, Webhook(name, ClientConfig(), (), SELECTOR), "", 0)
    for name in INJECTORS.values()
]


def namespace(**meta: Any) -> Namespace:
    return msgspec.convert({"metadata": {"name": "mendix", **meta}}, Namespace)


def decided(*installed: str, excluded: tuple[str, ...] = (), **meta: Any) -> Choice:
    world = World()
    world.install()
    for entry in world.objects[CONFIGURATION]["webhooks"]:
        entry["namespaceSelector"]["matchExpressions"].append(
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [*excluded, "x"]}
        )
    body = msgspec.json.encode(world.objects[CONFIGURATION])
    return decide(namespace(**meta), Enrollment.parse(body), installed, MUTATING)


@pytest.mark.parametrize("mesh", ["linkerd", "istio", "ambient"])
def test_it_joins_the_only_mesh(mesh: str) -> None:
    assert decided(mesh) == Choice("ready", mesh)


@pytest.mark.parametrize(
    ("meta", "state"),
    [
        ({"labels": {MESH: "istio"}}, "enrolled"),
        ({"labels": {MESH: "itsio"}}, "enrolled"),
        ({"labels": {MODE: "warn"}}, "labelled"),
        ({"annotations": {ENROLLED_AT: "2026-03-01T12:00:00Z"}}, "removed"),
        ({"annotations": {ENROLLED_AT: "never"}}, "removed"),
    ],
)
def test_what_an_admin_has_decided_stays(meta: dict[str, Any], state: State) -> None:
    assert decided("linkerd", **meta) == Choice(state)


def test_an_excluded_namespace_is_left_alone() -> None:
    assert decided("linkerd", excluded=("mendix",)) == Choice("excluded")
    label = {MESH: "linkerd"}
    assert decided("linkerd", excluded=("mendix",), labels=label) == Choice("excluded")


@pytest.mark.parametrize(
    ("installed", "meta", "choice"),
    [
        ((), {}, Choice("no-mesh", why="no mesh is installed; install Linkerd or Istio")),
        (
            ("istio", "ambient"), {},
            Choice("several-meshes",
                   why="istio, ambient are installed, and its labels and annotations do not name "
                   "one of them; choose one: kubectl label namespace mendix "
                   "mendix-mesh.io/mesh=istio mendix-mesh.io/mode=warn"),
        ),
        (
            ("istio",), {"annotations": LINKERD},
            Choice("mesh-missing",
                   why="its labels and annotations name linkerd, which is not installed; install "
                   "it, or enroll the namespace in another mesh: kubectl label namespace mendix "
                   "mendix-mesh.io/mesh=istio mendix-mesh.io/mode=warn"),
        ),
        (
            ("istio",), {"labels": {"istio-injection": "disabled"}},
            Choice("opted-out",
                   why="the label istio-injection=disabled keeps it out of istio; remove it: "
                   "kubectl label namespace mendix istio-injection-"),
        ),
        (("linkerd",), {"name": "cert-manager"}, Choice("opted-out",
            why="the selectors of injector exclude it; correct them, or its labels")),
    ],
)  # fmt: skip
def test_what_an_admin_must_decide_is_said_with_a_fix(
    installed: tuple[str, ...], meta: dict[str, Any], choice: Choice
) -> None:
    assert decided(*installed, **meta) == choice


def test_an_opt_out_of_another_mesh_does_not_count() -> None:
    assert decided("linkerd", labels={"istio-injection": "disabled"}) == Choice("ready", "linkerd")


@pytest.mark.parametrize(("mesh", "place", "key", "value"), [
    ("linkerd", "label", WEBHOOKS, "disabled"), ("istio", "label", "istio.io/rev", "gone"),
    ("linkerd", "annotation", "linkerd.io/inject", "true"),
    ("linkerd", "annotation", "linkerd.io/inject", "disabled"),
])  # fmt: skip
def test_what_the_injector_skips_is_opted_out(mesh: str, place: str, key: str, value: str) -> None:
    choice = decided(mesh, **dict[str, Any]({"labels": LINKERD, f"{place}s": {key: value}}))
    assert choice.state == "opted-out"
    assert choice.why.startswith(f"the {place} {key}={value} keeps it out of {mesh}; remove it: ")
