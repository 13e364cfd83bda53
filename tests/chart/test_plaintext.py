"""What the chart renders for namespaces that are closed to plaintext."""

import pytest

from tests.chart import helm
from tests.chart.test_webhook_configurations import FULL

NAMED = {"name": "shop", "mesh": "istio", "strict": True}
#: The policy object that both sidecars and ztunnel read.
EITHER = ["destinationrules", "serviceentries", "workloadentries", "workloadgroups", "envoyfilters"]
PEERS = {"security.istio.io": ["peerauthentications"]}
ISTIO = {
    **PEERS,
    "networking.istio.io": ["sidecars", "proxyconfigs", *EITHER],
    "": ["services"],
}
AMBIENT = {**PEERS, "networking.istio.io": EITHER}
LINKERD = {
    "policy.linkerd.io": [
        "servers",
        "serverauthorizations",
        "authorizationpolicies",
        "networkauthentications",
        "egressnetworks",
    ],
    "": ["namespaces"],
}


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_a_strict_namespace_gets_a_peer_authentication(mesh: str) -> None:
    values = {"namespaces": [{**NAMED, "mesh": mesh}, {"name": "crm", "mesh": mesh}]}
    found = helm.render(values).one("PeerAuthentication")
    assert found["apiVersion"] == "security.istio.io/v1"
    assert found["metadata"]["namespace"] == "shop"
    assert found["spec"] == {"mtls": {"mode": "STRICT"}}


def test_without_one_none_is_rendered() -> None:
    assert helm.render(FULL).of_kind("PeerAuthentication") == []


def test_the_fix_for_linkerd_is_shown() -> None:
    with pytest.raises(helm.RenderError, match="all-authenticated, or run mendix-mesh discover"):
        helm.render({"namespaces": [{**NAMED, "mesh": "linkerd"}]})


@pytest.mark.parametrize("reviewed", [False, True])
def test_policies_are_reviewed_only_on_request(reviewed: bool) -> None:
    rendered = helm.render({**FULL, "reviewMeshPolicies": reviewed})
    for entry in helm.for_pods(rendered.one("ValidatingWebhookConfiguration")):
        mesh = entry["clientConfig"]["service"]["path"].split("/")[2]
        every = {"linkerd": LINKERD, "istio": ISTIO, "ambient": AMBIENT, "unknown": {}}
        wanted = every[mesh] if reviewed else {}
        found = {
            group: rule["resources"]
            for rule in entry["rules"]
            for group in rule["apiGroups"]
            if group.endswith(("istio.io", "linkerd.io"))
            or rule["scope"] == "Cluster"
            or "services" in rule["resources"]
        }
        assert found == wanted
        for rule in entry["rules"]:
            # The deletion of a namespace must not wait for our server.
            assert "DELETE" not in rule["operations"]
            assert (rule["scope"] == "Cluster") == (rule["resources"] == ["namespaces"])
