"""The server's Deployment, Service, settings and disruption budget."""

from typing import Any

import pytest
import yaml

from tests.chart import helm


def deployment(values: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = helm.render(values, **how).one("Deployment")["spec"]
    return found


def pod(values: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = deployment(values, **how)["template"]
    return found


def container(values: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    (found,) = pod(values, **how)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_every_namespaced_object_is_in_the_release_namespace() -> None:
    for found in helm.render(namespace="123").objects:
        if not found["kind"].endswith("WebhookConfiguration") and "Cluster" not in found["kind"]:
            assert found["metadata"]["namespace"] == "123"


def test_the_pod_sleeps_before_it_drains() -> None:
    found = container({"drainSeconds": 7, "preStopSleepSeconds": 9})
    assert "--drain-seconds=7" in found["args"]
    assert found["lifecycle"] == {"preStop": {"sleep": {"seconds": 9}}}


@pytest.mark.parametrize(
    ("values", "source"),
    [
        (
            {"caSecretName": "api-ca", "key": "bundle.pem"},
            {"secret": {"secretName": "api-ca", "defaultMode": 0o440}},
        ),
        ({"caConfigMapName": "api-ca", "key": "bundle.pem"}, {"configMap": {"name": "api-ca"}}),
    ],
)
def test_clients_need_a_certificate_of_a_ca_and_a_name(
    values: dict[str, Any], source: dict[str, Any]
) -> None:
    values = {"clientCertificates": {**values, "names": ["kube-apiserver", "spiffe://x/y"]}}
    args = container(values)["args"]
    assert args[6:9] == [
        "--client-ca-file=/etc/mendix-mesh/client-ca/ca.crt",
        "--client-name=kube-apiserver",
        "--client-name=spiffe://x/y",
    ]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(values)["volumeMounts"]}
    assert mounts["client-ca"] == "/etc/mendix-mesh/client-ca"
    (volume,) = (one for one in pod(values)["spec"]["volumes"] if one["name"] == "client-ca")
    (kind,) = source
    assert volume[kind] == {**source[kind], "items": [{"key": "bundle.pem", "path": "ca.crt"}]}


def test_the_port_is_the_same_in_arguments_and_container_and_found_by_name() -> None:
    values = {"port": 10260, "hostNetwork": True}
    assert "--listen=:10260" in container(values)["args"]
    assert container(values)["ports"] == [
        {"name": "https", "containerPort": 10260, "protocol": "TCP"}
    ]
    assert helm.render(values).one("Service")["spec"]["ports"] == [
        {"name": "https", "protocol": "TCP", "port": 443, "targetPort": "https"}
    ]


def test_the_pod_stays_outside_every_mesh() -> None:
    metadata = pod(
        {
            "podAnnotations": {"linkerd.io/inject": "enabled", "a": "b"},
            "podLabels": {
                "sidecar.istio.io/inject": "true",
                "app.kubernetes.io/name": "x",
                "c": "d",
            },
        }
    )["metadata"]
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"
    assert metadata["annotations"]["a"] == "b"
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "mendix-mesh",
        "app.kubernetes.io/instance": "mendix-mesh",
        "sidecar.istio.io/inject": "false",
        "istio.io/dataplane-mode": "none",
        "c": "d",
    }


def test_settings_arrive_as_they_were_written() -> None:
    settings = {
        "optOut": "override",
        "exemptions": [
            {
                "checks": ["host-network"],
                "until": "2027-01-31",
                "namespaces": ["shop"],
                "reason": "node exporters",
            }
        ],
    }
    config = helm.render({"settings": settings}).one("ConfigMap")
    assert config["metadata"]["name"] == "mendix-mesh-settings"
    assert yaml.safe_load(config["data"]["settings.yaml"]) == settings


def test_changed_settings_restart_the_pods_and_nothing_else_does() -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = pod(values)["metadata"]["annotations"]
        return found

    assert annotations({}) != annotations({"settings": {"optOut": "override"}})
    assert pod({}) == pod({"mode": "audit", "namespaces": [{"name": "shop", "mesh": "istio"}]})


def test_the_disruption_budget_exists_only_if_it_cannot_block_a_drain() -> None:
    assert helm.render().one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert helm.render({"replicaCount": 1}).of_kind("PodDisruptionBudget") == []
    off = {"podDisruptionBudget": {"enabled": False}}
    assert helm.render(off).of_kind("PodDisruptionBudget") == []


DIGEST = f"sha256:{'0a' * 32}"
HOST = {"port": 10260, "hostNetwork": True}
LARGE = 1000650000


# tests/chart/golden has the objects of the default values, for review.
@pytest.mark.parametrize(
    ("values", "path", "expected"),
    [
        ({"affinity": {"nodeAffinity": {}}}, "affinity", {"nodeAffinity": {}}),
        ({"affinity": None}, "affinity", None),
        (HOST, "hostNetwork", True),
        (HOST, "dnsPolicy", "ClusterFirstWithHostNet"),
        (HOST | {"dnsPolicy": "Default"}, "dnsPolicy", "Default"),
        ({"image": {"repository": "a.org/mesh", "tag": "1.2"}}, "c/image", "a.org/mesh:1.2"),
        ({"image": {"digest": DIGEST}}, "c/image", f"{helm.IMAGE}:0.1.0@{DIGEST}"),
        ({"image": {"tag": None}}, "c/image", f"{helm.IMAGE}:0.1.0"),
        ({"image": {"pullPolicy": "Always"}}, "c/imagePullPolicy", "Always"),
        ({"imagePullSecrets": [{"name": "r"}]}, "imagePullSecrets", [{"name": "r"}]),
        ({"imagePullSecrets": None}, "imagePullSecrets", None),
        ({"logLevel": "debug"}, "c/args/-1", "--log-level=debug"),
        ({"nodeSelector": {"a": "b"}}, "nodeSelector", {"a": "b"}),
        ({"nodeSelector": None}, "nodeSelector", None),
        ({"podAnnotations": None}, "affinity", None),
        ({"podLabels": None}, "affinity", None),
        ({"preStopSleepSeconds": 3}, "c/lifecycle", {"preStop": {"sleep": {"seconds": 3}}}),
        ({"priorityClassName": ""}, "priorityClassName", None),
        ({"priorityClassName": None}, "priorityClassName", None),
        ({"resources": {"requests": {"cpu": "1"}}}, "c/resources/requests/cpu", "1"),
        ({"resources": {"requests": {"cpu": "1"}}}, "c/resources/requests/memory", "96Mi"),
        ({"resources": None}, "c/resources", None),
        ({"runAsUser": LARGE}, "securityContext/runAsUser", LARGE),
        ({"runAsUser": LARGE}, "securityContext/runAsGroup", LARGE),
        ({"runAsUser": LARGE}, "securityContext/fsGroup", LARGE),
        ({"runAsUser": None}, "securityContext/runAsUser", None),
        ({"runAsUser": None}, "securityContext/fsGroup", None),
        ({"terminationGracePeriodSeconds": 20}, "terminationGracePeriodSeconds", 20),
        ({"tls": {"secretName": "our-tls"}}, "volumes/1/secret/secretName", "our-tls"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations", [{"operator": "Exists"}]),
        ({"tolerations": None}, "tolerations", None),
    ],
)
def test_a_value_sets_a_field_of_the_pod(
    values: dict[str, Any], path: str, expected: object
) -> None:
    found: Any = pod(values)["spec"]
    for step in path.replace("c/", "containers/0/", 1 if path.startswith("c/") else 0).split("/"):
        found = found[int(step)] if isinstance(found, list) else (found or {}).get(step)
    assert found == expected


def test_the_number_of_pods_can_be_set() -> None:
    assert deployment({"replicaCount": 3})["replicas"] == 3
