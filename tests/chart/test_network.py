"""Which clients can reach the server, and from where it is scraped."""

from typing import Any

import pytest

from tests.chart import helm

OPEN = {"enabled": True, "apiServerCIDRs": ["10.0.0.0/20", "fd00::/64"]}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def policy(values: dict[str, Any] | None = None, **peers: Any) -> dict[str, Any]:
    found = helm.render({"networkPolicy": {**OPEN, **peers}, **(values or {})})
    spec: dict[str, Any] = found.one("NetworkPolicy")["spec"]
    return spec


def test_there_is_no_policy_by_default() -> None:
    assert helm.render().of_kind("NetworkPolicy") == []


def test_only_the_api_server_whom_the_values_name_and_helm_test_may_call() -> None:
    (rule,) = policy({"port": 8443}, **{"from": [MONITORING]})["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]
    *named, test = rule["from"]
    assert named == [
        {"ipBlock": {"cidr": "10.0.0.0/20"}},
        {"ipBlock": {"cidr": "fd00::/64"}},
        MONITORING,
    ]
    labels = helm.render().one("Pod")["metadata"]["labels"]
    assert test["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_pods_are_not_allowed_to_call_anything() -> None:
    assert policy()["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy()


def monitor(values: dict[str, Any] | None = None) -> dict[str, Any]:
    monitored = {"serviceMonitor": {"enabled": True}, **(values or {})}
    return helm.render(monitored).one("ServiceMonitor")


@pytest.mark.parametrize(
    ("tls", "ca"),
    [
        ({}, {"secret": {"name": "mendix-mesh-tls", "key": "ca.crt"}}),
        ({"secretName": "ours"}, {"secret": {"name": "ours", "key": "ca.crt"}}),
        (
            {"certManager": {"caSecretName": "company-ca"}},
            {"secret": {"name": "company-ca", "key": "ca.crt"}},
        ),
        ({"source": "helm"}, {"secret": {"name": "mendix-mesh-tls", "key": "ca.crt"}}),
        (helm.OWN["tls"], {"configMap": {"name": "mendix-mesh-ca", "key": "ca.crt"}}),
    ],
)
def test_prometheus_and_helm_test_verify_the_server_by_its_ca(
    tls: dict[str, Any], ca: dict[str, Any]
) -> None:
    (endpoint,) = monitor({"tls": tls})["spec"]["endpoints"]
    assert endpoint["tlsConfig"] == {"serverName": "mendix-mesh.mendix-mesh.svc", "ca": ca}
    (volume,) = helm.render({"tls": tls}).one("Pod")["spec"]["volumes"]
    (source,) = volume["projected"]["sources"]
    (kind,) = ca
    assert source[kind]["name"] == ca[kind]["name"]


def test_the_ca_of_ones_own_certificate_is_there_for_prometheus() -> None:
    maps = {one["metadata"]["name"]: one for one in helm.render(helm.OWN).of_kind("ConfigMap")}
    assert maps["mendix-mesh-ca"]["data"] == {"ca.crt": helm.CA}


def test_labels_by_which_prometheus_selects_are_added_and_take_none_away() -> None:
    labels = {"release": "prometheus", "app.kubernetes.io/name": "other"}
    values = {
        key: {"enabled": True, "labels": labels} for key in ("serviceMonitor", "prometheusRule")
    }
    for kind in ("ServiceMonitor", "PrometheusRule"):
        found = helm.render(values).one(kind)["metadata"]["labels"]
        assert found["release"] == "prometheus"
        assert found["app.kubernetes.io/name"] == "mendix-mesh"


@pytest.mark.parametrize(("family", "host"), [("", ""), ("IPv4", "0.0.0.0"), ("IPv6", "[::]")])
def test_the_pods_listen_on_both_families_of_addresses_or_on_one(family: str, host: str) -> None:
    """Only for port-forwarding, the dashboard listens on the loopback device."""
    for expose in (False, True):
        auditor = {"dashboard": {"expose": expose}}
        rendered = helm.render({"ipFamily": family, "port": 10260, "auditor": auditor})
        server, watcher = (
            rendered.one("Deployment", auditor=one)["spec"]["template"]["spec"]["containers"][0]
            for one in (False, True)
        )
        assert f"--listen={host}:10260" in server["args"]
        dashboard = f"{host}:8081" if expose else "127.0.0.1:8081"
        assert {
            f"--listen={host}:8080", f"--tls-listen={host}:10260", f"--dashboard={dashboard}"
        } <= set(watcher["args"])  # fmt: skip
