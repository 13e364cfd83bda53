"""The entries for Namespaces: which path is called for which namespace.

tests/cluster/test_namespaces.py tests their conditions on a real API server.
"""

import itertools
from typing import Any

import pytest

from tests.chart import helm
from tests.chart.test_routing import EXCLUDED, MESHES, MODES, NAMES, VALUE_SETS, labels_of, meets
from webhook.admission.metrics import Metrics
from webhook.admission.namespaces import NamespaceRoute
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings

KIND = "ValidatingWebhookConfiguration"
RESOURCES = ["namespaces", "namespaces/status", "namespaces/finalize"]


def entries(values: dict[str, Any]) -> list[helm.Object]:
    configuration = helm.render(values).one(KIND)
    others = helm.for_pods(configuration)
    return [one for one in configuration["webhooks"] if one not in others]


def expected(name: str, values: dict[str, Any]) -> str:
    """Return the path for a namespace."""
    if name in EXCLUDED:
        return "/namespace/excluded"
    mode = values["mode"]
    for named in values.get("namespaces", ()):
        if named["name"] == name:
            return f"/namespace/{mode}/{named['mesh']}/{named.get('mode', mode)}"
    return f"/namespace/{mode}"


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_namespace_reaches_the_path_that_says_what_the_values_do(
    values: dict[str, Any],
) -> None:
    found = entries(values)
    reached = set()
    for name in NAMES:
        labels = labels_of(name, "linkerd", None)
        matching = [
            one for one in found
            if all(meets(labels, want) for want in one["namespaceSelector"]["matchExpressions"])
        ]  # fmt: skip
        reached |= {one["name"] for one in matching}
        policies = ["Ignore"] if name in EXCLUDED else ["Fail", "Ignore"]
        assert [one["failurePolicy"] for one in matching] == policies
        assert {one["clientConfig"]["service"]["path"] for one in matching} == {
            expected(name, values)
        }
    assert reached == {one["name"] for one in found}


def test_every_path_is_served_and_says_that() -> None:
    routes = Reviewer(Settings(), Metrics("test")).routes
    for values in VALUE_SETS.values():
        for one in entries(values):
            path = one["clientConfig"]["service"]["path"]
            route = routes[path]
            assert isinstance(route, NamespaceRoute)
            if route.values is None:
                assert path == "/namespace/excluded"
                continue
            said = [route.values.mode, *(route.values.named or ())]
            assert path == "/".join(["/namespace", *said])
    served = {path for path in routes if path.startswith("/namespace/")}
    assert len(served) == 1 + len(MODES) + len(MODES) * len(list(itertools.product(MESHES, MODES)))


@pytest.mark.parametrize("mode", MODES)
def test_two_conditions_part_what_must_be_answered_from_what_need_not(mode: str) -> None:
    fail, ignore, excluded = entries({"mode": mode})
    assert [one["name"] for one in (fail, ignore, excluded)] == [
        "namespaces.enforced.mendix-mesh.io",
        "namespaces.mendix-mesh.io",
        "namespaces.excluded.mendix-mesh.io",
    ]
    conditions = [
        {one["name"]: one["expression"] for one in entry["matchConditions"]}
        for entry in (fail, ignore, excluded)
    ]
    (first,) = {one["our-labels"] for one in conditions}
    assert first.startswith("!has(object.metadata.deletionTimestamp) && ")
    assert conditions[1]["enforcement"] == f"!({conditions[0]['enforcement']})"
    assert f".orValue('{mode}')" in conditions[0]["enforcement"]
    assert "enforcement" not in conditions[2]


def test_the_labels_are_reviewed_however_they_are_written() -> None:
    for one in entries({"namespaces": [{"name": "shop", "mesh": "istio"}]}):
        (rule,) = one["rules"]
        assert rule["operations"] == ["CREATE", "UPDATE"]
        assert rule["resources"] == RESOURCES
        assert rule["scope"] == "Cluster"
        assert one["sideEffects"] == "None"
        assert one["matchPolicy"] == "Equivalent"


def test_names_of_entries_for_namespaces_enrolled_by_name_are_the_contract() -> None:
    values = {
        "namespaces": [
            {"name": "shop", "mesh": "istio"},
            {"name": "crm", "mesh": "istio"},
            {"name": "edge", "mesh": "linkerd", "mode": "warn"},
        ]
    }
    assert [one["name"].removesuffix(".mendix-mesh.io") for one in entries(values)][2:] == [
        "namespaces.enforced.named-linkerd-warn",
        "namespaces.named-linkerd-warn",
        "namespaces.enforced.named-istio-enforce",
        "namespaces.named-istio-enforce",
        "namespaces.excluded",
    ]


AUDITOR = {**helm.OWN, "auditor": {"tlsSecretName": "mine"}}


def test_the_auditor_is_called_if_it_serves_the_api_server() -> None:
    configuration = helm.render(AUDITOR).one(KIND, auditor=True)
    assert configuration["metadata"]["name"] == "mendix-mesh-auditor"
    (webhook,) = configuration["webhooks"]
    assert webhook["failurePolicy"] == "Ignore"
    service = webhook["clientConfig"]["service"]
    assert (service["name"], service["port"], service["path"]) == (
        "mendix-mesh-auditor", 443, "/labelled"
    )  # fmt: skip
    assert webhook["clientConfig"]["caBundle"] == helm.CA_BUNDLE
    (where,) = webhook["namespaceSelector"]["matchExpressions"]
    assert (where["operator"], set(where["values"])) == ("NotIn", set(EXCLUDED))


@pytest.mark.parametrize(
    "values",
    [
        helm.OWN,
        {**AUDITOR, "auditor": {"enabled": False, "tlsSecretName": "mine"}},
        {**AUDITOR, "hostNetwork": True, "port": 10260},
    ],
)
def test_if_the_auditor_serves_no_https_it_is_not_called(values: dict[str, Any]) -> None:
    names = [one["metadata"]["name"] for one in helm.render(values).of_kind(KIND)]
    assert names == ["mendix-mesh"]


@pytest.mark.parametrize("source", ["certManager", "helm"])
def test_the_auditors_ca_comes_as_the_servers_does(source: str) -> None:
    configuration = helm.render({"tls": {"source": source}}).one(KIND, auditor=True)
    (webhook,) = configuration["webhooks"]
    injected = "cert-manager.io/inject-ca-from" in configuration["metadata"]["annotations"]
    assert injected == (source == "certManager")
    assert ("caBundle" in webhook["clientConfig"]) == (source == "helm")
