"""The API server's own policies: what is rendered, for which versions and settings."""

from typing import Any

import pytest

from tests.chart import helm

KINDS = (
    "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
)  # fmt: skip


def kinds(engine: str, kubernetes: str) -> set[str]:
    rendered = helm.render({"engine": engine}, kubernetes=kubernetes)
    return {kind for kind in KINDS if rendered.of_kind(kind)}


@pytest.mark.parametrize(
    ("engine", "kubernetes", "rendered"),
    [
        ("webhook", "1.37.0", ()),
        ("policy", "1.37.0", KINDS),
        ("auto", "1.36.0", KINDS),
        ("auto", "1.35.0", KINDS[2:]),
    ],
)
def test_the_engine_takes_what_the_api_server_has(
    engine: str, kubernetes: str, rendered: tuple[str, ...]
) -> None:
    assert kinds(engine, kubernetes) == set(rendered)


def test_what_auto_assumes_is_said() -> None:
    text = helm.render({"engine": "auto"}, kubernetes="1.35.0").text
    assert "# engine: auto, so policy, for Kubernetes v1.35.0" in text


def test_no_parameter_is_left_and_no_expression_ends_early() -> None:
    images = ["a.io/x'y", "b.io/(z"]
    settings = {"clusterDomain": "it's.example", "linkerd": {"proxyImages": images}}
    text = helm.render({"engine": "policy", "settings": settings}, kubernetes="1.37.0").text
    assert "<<" not in text
    assert r"(?:a\\.io/x\\x27y|b\\.io/\\(z)" in text
    assert r"it\\x27s\\.example" in text
    assert r"$(POD_NAMESPACE).svc.it\\'s.example" in text


def test_the_policies_are_for_the_webhook_s_namespaces_without_those_of_ingresses() -> None:
    values = {"engine": "policy", "ingress": {"namespaces": ["edge"]}}
    rendered = helm.render(values, kubernetes="1.37.0")
    webhooks = {
        one["name"]: one["namespaceSelector"]["matchExpressions"]
        for one in rendered.one("ValidatingWebhookConfiguration")["webhooks"]
    }
    for binding in rendered.of_kind("ValidatingAdmissionPolicyBinding"):
        name = binding["metadata"]["name"].removesuffix("-advice").removeprefix("mendix-mesh-")
        mesh, _, rest = name.partition("-")
        where = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert where == webhooks[f"special-pods.{mesh}.{rest}.mendix-mesh.io"]
        assert "edge" in str(where)


def found(level: str, **settings: Any) -> set[str]:
    """Return the checks of Linkerd that the policies deny, or warn of."""
    rendered = helm.render({"engine": "policy", "settings": settings}, kubernetes="1.37.0")
    policies = {one["metadata"]["name"]: one["spec"] for one in
                rendered.of_kind("ValidatingAdmissionPolicy")}  # fmt: skip
    name, variable = {"deny": ("mendix-mesh-linkerd", "denied"),
                      "warning": ("mendix-mesh-linkerd-advice", "advice")}[level]  # fmt: skip
    (expression,) = (one["expression"] for one in policies[name]["variables"]
                     if one["name"] == variable)  # fmt: skip
    return {part.partition("'")[0] for part in expression.split(".map(r, ['")[1:]}


def test_a_level_for_all_pods_moves_a_check_and_one_for_some_makes_them_special() -> None:
    every = {"check": "shared-identity", "level": "deny", "reason": "agreed"}
    assert "shared-identity" in found("warning")
    assert "shared-identity" in found("deny", levels=[every])
    assert "shared-identity" not in found("warning", levels=[every])
    some = {**every, "namespaces": ["shop-*"]}
    assert "shared-identity" in found("warning", levels=[some])
    rendered = helm.render(
        {"engine": "policy", "settings": {"levels": [some]}}, kubernetes="1.37.0"
    )
    assert "request.namespace.matches(r'^(?:shop-.*)$')" in rendered.text


CLOSED = "all-authenticated|cluster-authenticated|deny"


def ordinary(**settings: Any) -> str:
    """Return the condition of the webhook for special pods of Linkerd."""
    rendered = helm.render({"engine": "policy", "settings": settings}, kubernetes="1.37.0")
    (found,) = (
        one["matchConditions"][0]["expression"]
        for one in rendered.one("ValidatingWebhookConfiguration")["webhooks"]
        if one["name"] == "special-pods.linkerd.enforce.mendix-mesh.io"
    )
    return str(found)


def test_a_pod_that_accepts_plaintext_is_special_if_a_level_denies_it() -> None:
    every = {"check": "accepts-plaintext", "level": "deny", "reason": "agreed"}
    assert CLOSED not in ordinary()
    assert CLOSED in ordinary(levels=[every])
    assert CLOSED not in ordinary(levels=[every, {**every, "level": "warning"}])
    assert "r'^(?:shop-.*)$'" in ordinary(levels=[{**every, "namespaces": ["shop-*"]}])


def test_a_level_for_no_namespace_is_rejected() -> None:
    nowhere = {"check": "host-network", "level": "warning", "reason": "agreed", "namespaces": []}
    with pytest.raises(helm.RenderError, match="namespaces"):
        helm.render({"engine": "policy", "settings": {"levels": [nowhere]}}, kubernetes="1.37.0")


def test_a_label_of_a_selector_is_quoted() -> None:
    expressions = [
        {"key": "it's", "operator": "Exists"},
        {"key": "it's", "operator": "In", "values": ["x"]},
    ]
    some = {"check": "shared-identity", "level": "deny", "reason": "agreed",
            "selector": {"matchExpressions": expressions}}  # fmt: skip
    assert "[?'it's']" not in ordinary(levels=[some])
    assert "[?'it\\'s']" in ordinary(levels=[some])
