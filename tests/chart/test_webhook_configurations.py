"""The entries of the webhook configurations: rules, failure policy, CA, timeout."""

from typing import Any

import pytest

from tests.chart import helm

KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
FULL = {
    "mode": "warn",
    "namespaces": [{"name": "shop", "mesh": "istio"}, {"name": "edge", "mesh": "linkerd"}],
    "ingress": {"namespaces": ["edge"]},
}

Rule = tuple[str, str, str]  # operation, group/version, resource


def rules_of(entry: helm.Object) -> set[Rule]:
    """Every combination that an entry's rules name."""
    assert all(rule["scope"] == "Namespaced" for rule in entry["rules"])
    return {
        (operation, f"{group}/{version}".lstrip("/"), resource)
        for rule in entry["rules"]
        for operation in rule["operations"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for resource in rule["resources"]
    }


def rules(operations: set[str], *resources: str) -> set[Rule]:
    """Operations on resources, each of these written as `group/version resource`."""
    named = [resource.split() for resource in resources]
    return {(operation, group, name) for operation in operations for group, name in named}


CONTROLLERS = (
    "apps/v1 deployments",
    "apps/v1 statefulsets",
    "apps/v1 daemonsets",
    "apps/v1 replicasets",
    "batch/v1 jobs",
    "batch/v1 cronjobs",
)


def webhooks(kind: str, values: dict[str, Any] | None = None) -> list[helm.Object]:
    """The entries for objects in namespaces. test_namespaces has those for Namespaces."""
    return helm.for_pods(helm.render(FULL if values is None else values).one(kind))


def test_pods_are_opted_in_at_birth_and_what_makes_them_also_on_update() -> None:
    for entry in webhooks("MutatingWebhookConfiguration"):
        assert rules_of(entry) == (
            rules({"CREATE"}, "v1 pods")
            if ".mutate-pods." in entry["name"]
            else rules({"CREATE", "UPDATE"}, *CONTROLLERS, "networking.k8s.io/v1 ingresses")
        )


def test_pods_their_debug_containers_and_what_makes_them_are_judged() -> None:
    for entry in webhooks("ValidatingWebhookConfiguration"):
        if not entry["name"].startswith("unknown-mesh."):
            assert rules_of(entry) == (
                rules({"CREATE", "UPDATE"}, "v1 pods", *CONTROLLERS)
                | rules({"UPDATE"}, "v1 pods/ephemeralcontainers", "v1 pods/status")
            )


def conditions(entry: helm.Object) -> dict[str, str]:
    """The conditions of an entry by name."""
    return {one["name"]: one["expression"] for one in entry.get("matchConditions", ())}


def test_with_policies_their_conditions_are_about_what_is_read_of_them() -> None:
    values = {**FULL, "reviewMeshPolicies": True}
    for entry in webhooks("ValidatingWebhookConfiguration", values):
        found = conditions(entry).get("policy-changes-what-is-judged", "")
        mesh = entry["name"].partition(".")[0]
        assert bool(found) == (mesh != "unknown-mesh")
        assert ("default-inbound-policy" in found) == (mesh == "linkerd")
        assert ("ambient.istio.io/redirection" in found) == (mesh == "ambient")


def test_a_label_that_settings_select_by_is_judged() -> None:
    deal = {"reason": "agreed", "namespaces": ["*"]}
    by = [
        {"matchLabels": {"app": "dns"}},
        {"matchExpressions": [{"key": "it's", "operator": "Exists"}]},
    ]
    settings = {
        "allow": [{**deal, "selector": by[0]}, deal],
        "exemptions": [{**deal, "checks": ["host-network"], "selector": by[1]}],
        "levels": [{"check": "udp-port", "level": "deny", "reason": "no", "selector": by[0]}],
    }
    (plain, given) = (
        conditions(webhooks("ValidatingWebhookConfiguration", values)[0])
        for values in ({}, {"settings": settings})
    )
    name = "pod-changes-what-is-judged"
    assert "'app', 'it\\'s'" in given[name]
    assert (
        given[name].replace(", 'app', 'it\\'s'", "").replace("key in ['app', 'it\\'s'] || ", "")
        == plain[name]
    )


def test_every_condition_is_short_enough_to_be_read() -> None:
    """The expressions are repeated in each entry, and Helm stores them in a Secret of 1 MiB."""
    for entry in webhooks("ValidatingWebhookConfiguration"):
        assert len(str(conditions(entry))) < 6_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_says_what_the_api_server_would_assume(kind: str) -> None:
    for entry in webhooks(kind):
        assert entry["matchPolicy"] == "Equivalent"
        assert entry["sideEffects"] == "None"
        assert entry["admissionReviewVersions"] == ["v1"]
        assert entry["objectSelector"] == {}
        assert entry["timeoutSeconds"] == 5


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_the_mutating_side_stops_no_pod_that_the_validating_side_would_not(
    values: dict[str, Any],
) -> None:
    """An entry that fails has the selector of a validating entry that fails."""
    failing = {
        kind: [
            entry["namespaceSelector"]
            for entry in webhooks(kind, values)
            if entry["failurePolicy"] == "Fail" and not entry["name"].startswith("unknown-mesh.")
        ]
        for kind in KINDS
    }
    assert failing["MutatingWebhookConfiguration"] == failing["ValidatingWebhookConfiguration"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_calls_the_service_of_the_release(kind: str) -> None:
    rendered = helm.render(FULL, namespace="platform", release="other")
    service = rendered.one("Service")
    for entry in rendered.one(kind)["webhooks"]:
        reference = entry["clientConfig"]["service"]
        assert reference["namespace"] == service["metadata"]["namespace"] == "platform"
        assert reference["name"] == service["metadata"]["name"]
        assert reference["port"] == service["spec"]["ports"][0]["port"] == 443


@pytest.mark.parametrize("given", [helm.CA, helm.CA_BUNDLE, f"{helm.CA_BUNDLE}\n"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ca_may_be_given_as_pem_or_as_its_base64(kind: str, given: str) -> None:
    for entry in webhooks(kind, {"tls": {"source": "secret", "caBundle": given}}):
        assert entry["clientConfig"]["caBundle"] == helm.CA_BUNDLE


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_for_an_answer_can_be_set(kind: str) -> None:
    assert {entry["timeoutSeconds"] for entry in webhooks(kind, {"timeoutSeconds": 3})} == {3}


def test_the_mutating_configuration_comes_before_the_injectors() -> None:
    name = helm.render().one("MutatingWebhookConfiguration")["metadata"]["name"]
    injectors = ["istio-sidecar-injector", "linkerd-proxy-injector-webhook-config"]
    assert sorted([*injectors, name])[0] == name == "00-mendix-mesh"


@pytest.mark.parametrize("name", ["000", "a-mesh", "istio"])
def test_the_mutating_configuration_may_have_any_early_name(name: str) -> None:
    rendered = helm.render({"mutatingWebhookConfigurationName": name})
    assert rendered.one("MutatingWebhookConfiguration")["metadata"]["name"] == name


def test_a_late_name_is_possible_on_request() -> None:
    rendered = helm.render(
        {"mutatingWebhookConfigurationName": "zz-mendix-mesh", "allowLateName": True}
    )
    assert rendered.one("MutatingWebhookConfiguration")["metadata"]["name"] == "zz-mendix-mesh"
