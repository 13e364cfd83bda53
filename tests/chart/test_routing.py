"""Which namespaces reach which path: the selectors, compared with an independent version.

The rules are in the chart's README, "Which pods are reviewed, and how". `expected` repeats them in
Python. `matching` evaluates the rendered selectors like the API server. Both are compared for every
combination of a namespace's name, its two labels, the chart's mode, and the lists.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart import helm

MESHES = ("linkerd", "istio", "ambient")
MODES = ("enforce", "warn", "audit")
EXCLUDED = (
    "kube-system",
    "kube-node-lease",
    "linkerd",
    "istio-system",
    "cert-manager",
    "mendix-mesh",
)

MESH_LABELS = (None, *MESHES, "linkred", "Linkerd", "")
MODE_LABELS = (None, *MODES, "wran", "Audit", "")

# One namespace for each way to be named, in and outside the list of ingress namespaces.
NAMED: list[dict[str, str]] = [
    {"name": f"{mesh}-{mode or 'default'}-{place}", "mesh": mesh} | ({"mode": mode} if mode else {})
    for mesh, mode, place in itertools.product(MESHES, (None, *MODES), ("apps", "ingress"))
]
INGRESS = ["ingress-nginx", *(entry["name"] for entry in NAMED if "ingress" in entry["name"])]
#: Path and failure policy of an entry.
Route = tuple[str, str]
NAMES = (*EXCLUDED, "shop", "default", *INGRESS, *(entry["name"] for entry in NAMED))

LISTS: dict[str, dict[str, Any]] = {
    "bare": {},
    "named": {"namespaces": NAMED},
    "ingress": {"ingress": {"namespaces": INGRESS}},
    "both": {"namespaces": NAMED, "ingress": {"namespaces": INGRESS}},
}
VALUE_SETS: dict[str, dict[str, Any]] = {
    f"{mode}-{what}": {"mode": mode, **lists}
    for mode, (what, lists) in itertools.product(MODES, LISTS.items())
}


def meets(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    """Return whether a requirement matches, like apimachinery's labels.Requirement.Matches."""
    key: str = expression["key"]
    operator: str = expression["operator"]
    values: list[str] | None = expression.get("values")
    if operator in {"In", "NotIn"}:
        assert values, f"the API server rejects {operator} without values"
        return (labels.get(key) in values) == (operator == "In")
    assert operator in {"Exists", "DoesNotExist"}
    assert values is None, f"the API server rejects {operator} with values"
    return (key in labels) == (operator == "Exists")


def matching(configuration: helm.Object, labels: Mapping[str, str]) -> list[helm.Object]:
    """Return the entries for pods whose namespaceSelector matches a namespace's labels."""
    return [
        entry
        for entry in helm.for_pods(configuration)
        if all(meets(labels, want) for want in entry["namespaceSelector"]["matchExpressions"])
    ]


def routes(configuration: helm.Object, labels: Mapping[str, str]) -> dict[str, list[Route]]:
    """Return path and failure policy of each matching entry, for pods and for other objects."""
    found: dict[str, list[Route]] = {"pods": [], "others": []}
    for entry in matching(configuration, labels):
        route = entry["clientConfig"]["service"]["path"], entry["failurePolicy"]
        resources = {name for rule in entry["rules"] for name in rule["resources"]}
        if "pods" in resources:
            found["pods"].append(route)
        if resources - {"pods"}:
            found["others"].append(route)
    return found


def labels_of(name: str, mesh: str | None, mode: str | None) -> dict[str, str]:
    """A namespace's labels, the one that the API server sets itself among them."""
    labels = {"kubernetes.io/metadata.name": name, "team": "shop"}
    if mesh is not None:
        labels["mendix-mesh.io/mesh"] = mesh
    if mode is not None:
        labels["mendix-mesh.io/mode"] = mode
    return labels


def expected(
    name: str, mesh: str | None, mode: str | None, values: Mapping[str, Any]
) -> tuple[str, str, str] | None:
    """Return mesh, mode and end of the path of a namespace, or None if it is not enrolled."""
    if name in EXCLUDED:
        return None
    named = next((entry for entry in values.get("namespaces", []) if entry["name"] == name), None)
    default = values["mode"]
    if mesh is not None:
        mesh = mesh if mesh in MESHES else "unknown"
    elif named is not None:
        mesh = named["mesh"]
        default = named.get("mode", default)
    else:
        return None
    if mode is None:
        mode = default
    elif mode not in MODES:
        mode = "enforce"
    ingress = name in values.get("ingress", {}).get("namespaces", []) and mesh != "unknown"
    return mesh, mode, "/ingress" if ingress else ""


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_namespace_reaches_exactly_the_path_of_its_mesh_and_mode(
    values: dict[str, Any],
) -> None:
    rendered = helm.render(values)
    validating = rendered.one("ValidatingWebhookConfiguration")
    mutating = rendered.one("MutatingWebhookConfiguration")
    for name, mesh, mode in itertools.product(NAMES, MESH_LABELS, MODE_LABELS):
        labels = labels_of(name, mesh, mode)
        want = expected(name, mesh, mode, values)
        judged, opted_in = routes(validating, labels), routes(mutating, labels)
        if want is None:
            assert judged == opted_in == {"pods": [], "others": []}, labels
            continue
        final_mesh, final_mode, tail = want
        policy = "Fail" if final_mode == "enforce" else "Ignore"
        route = f"/validate/{final_mesh}/{final_mode}{tail}", policy
        assert judged == {"pods": [route], "others": [route]}, labels
        path = f"/mutate/{final_mesh}{tail}"
        assert opted_in == (
            {"pods": [], "others": []}
            if final_mesh == "unknown"
            else {"pods": [(path, policy)], "others": [(path, "Ignore")]}
        ), labels


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_entry_is_reached_by_some_namespace(values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    combinations = [
        labels_of(*which) for which in itertools.product(NAMES, MESH_LABELS, MODE_LABELS)
    ]
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        configuration = rendered.one(kind)
        reached = {
            entry["name"] for labels in combinations for entry in matching(configuration, labels)
        }
        assert reached == {entry["name"] for entry in helm.for_pods(configuration)}


def test_the_release_namespace_is_excluded_whatever_it_is_called() -> None:
    configuration = helm.render(namespace="platform").one("ValidatingWebhookConfiguration")
    assert matching(configuration, labels_of("platform", "linkerd", "enforce")) == []
    assert len(matching(configuration, labels_of("mendix-mesh", "linkerd", "enforce"))) == 1


def test_the_system_namespaces_stay_excluded_when_the_lists_are_empty() -> None:
    values: dict[str, Any] = {"excludedNamespaces": [], "meshNamespaces": []}
    configuration = helm.render(values).one("ValidatingWebhookConfiguration")
    for name in ("kube-system", "kube-node-lease", "mendix-mesh"):
        assert matching(configuration, labels_of(name, "linkerd", None)) == []
    assert len(matching(configuration, labels_of("linkerd", "linkerd", None))) == 1


def test_further_namespaces_can_be_excluded() -> None:
    values = {"excludedNamespaces": ["legacy"], "meshNamespaces": ["istio-gateways"]}
    configuration = helm.render(values).one("ValidatingWebhookConfiguration")
    for name in ("legacy", "istio-gateways"):
        assert matching(configuration, labels_of(name, "linkerd", None)) == []


def _names(values: dict[str, Any], kind: str) -> list[str]:
    return [entry["name"] for entry in helm.for_pods(helm.render(values).one(kind))]


@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_a_lenient_chart_mode_adds_one_entry_for_namespaces_without_a_mode(mode: str) -> None:
    added = set(_names({"mode": mode}, "ValidatingWebhookConfiguration")) - set(
        _names({}, "ValidatingWebhookConfiguration")
    )
    assert added == {f"{mesh}.{mode}-default.mendix-mesh.io" for mesh in (*MESHES, "unknown-mesh")}
    mutating = set(_names({"mode": mode}, "MutatingWebhookConfiguration")) - set(
        _names({}, "MutatingWebhookConfiguration")
    )
    assert mutating == {f"{mesh}.mutate-pods.warn-audit-default.mendix-mesh.io" for mesh in MESHES}


def test_the_names_of_entries_for_named_and_ingress_namespaces_are_the_contract() -> None:
    values: dict[str, Any] = {
        "namespaces": [
            {"name": "shop", "mesh": "linkerd"},
            {"name": "crm", "mesh": "linkerd", "mode": "warn"},
            {"name": "edge", "mesh": "linkerd"},
        ],
        "ingress": {"namespaces": ["edge"]},
    }
    linkerd = [
        name.removesuffix(".mendix-mesh.io").removeprefix("linkerd.")
        for name in _names(values, "ValidatingWebhookConfiguration")
        if name.startswith("linkerd.")
    ]
    assert linkerd == [
        *("enforce", "warn", "audit"),
        *("enforce.named", "enforce-labelled.named"),
        *("warn.named", "warn-labelled.named", "audit-labelled.named"),
        *("enforce.ingress", "warn.ingress", "audit.ingress"),
        *("enforce.named-ingress", "enforce-labelled.named-ingress"),
        *("warn-labelled.named-ingress", "audit-labelled.named-ingress"),
    ]
    mutating = _names(values, "MutatingWebhookConfiguration")
    assert [name for name in mutating if name.startswith("linkerd.")] == [
        f"linkerd.{name}.mendix-mesh.io"
        for name in (
            *("mutate-pods.enforce", "mutate-pods.warn-audit", "mutate"),
            *("mutate-pods.enforce.named", "mutate-pods.enforce-labelled.named"),
            *("mutate-pods.warn-audit.named", "mutate-pods.warn-audit-labelled.named"),
            "mutate.named",
            *("mutate-pods.enforce.ingress", "mutate-pods.warn-audit.ingress", "mutate.ingress"),
            *("mutate-pods.enforce.named-ingress", "mutate-pods.enforce-labelled.named-ingress"),
            "mutate-pods.warn-audit-labelled.named-ingress",
            "mutate.named-ingress",
        )
    ]


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_the_names_of_entries_are_unique_and_end_in_our_domain(values: dict[str, Any]) -> None:
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        names = _names(values, kind)
        assert len(set(names)) == len(names)
        assert all(name.endswith(".mendix-mesh.io") for name in names)
