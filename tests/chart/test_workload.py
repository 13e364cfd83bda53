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


def test_the_chart_renders_these_objects_and_no_role_without_the_auditor() -> None:
    values = {**helm.OWN, "auditor": {"enabled": False}}
    kinds = sorted(found["kind"] for found in helm.render(values).objects)
    assert kinds == [
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "MutatingWebhookConfiguration",
        "Pod",
        "PodDisruptionBudget",
        "Service",
        "ValidatingWebhookConfiguration",
    ]


def test_every_template_file_holds_one_object() -> None:
    sources = helm.render().sources
    assert len(set(sources)) == len(sources)


def test_the_same_values_render_the_same_text() -> None:
    first = helm.render({"settings": {"optOut": "deny", "levels": []}}).text
    helm._rendered.cache_clear()
    assert helm.render({"settings": {"optOut": "deny", "levels": []}}).text == first


def test_every_namespaced_object_is_in_the_release_namespace() -> None:
    for found in helm.render(namespace="123").objects:
        if not found["kind"].endswith("WebhookConfiguration") and "Cluster" not in found["kind"]:
            assert found["metadata"]["namespace"] == "123"


def test_every_object_carries_the_standard_labels() -> None:
    everything = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    for found in helm.render(everything, release="1").objects:
        # The pod of `helm test` is no part of the release.
        if found["kind"] == "Pod":
            continue
        assert found["metadata"]["labels"] == {
            "app.kubernetes.io/name": f"mendix-mesh{'-auditor' if helm.is_auditors(found) else ''}",
            "app.kubernetes.io/instance": "1",
            "app.kubernetes.io/version": "0.1.0",
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/part-of": "mendix-mesh",
            "helm.sh/chart": "mendix-mesh-0.1.0",
        }


def test_the_container_serves_with_the_mounted_files() -> None:
    assert container()["args"] == [
        "serve",
        "--listen=0.0.0.0:10250",
        "--settings=/etc/mendix-mesh/settings.yaml",
        "--tls-cert-file=/etc/mendix-mesh/tls/tls.crt",
        "--tls-private-key-file=/etc/mendix-mesh/tls/tls.key",
        "--tls-server-name=mendix-mesh.mendix-mesh.svc",
        "--drain-seconds=5",
        "--log-level=info",
    ]


@pytest.mark.parametrize(
    ("kubernetes", "seconds", "sleeps"), [("1.30.0", 7, True), ("1.29.9", 17, False)]
)
def test_the_server_drains_for_longer_if_the_pod_cannot_sleep_before(
    kubernetes: str, seconds: int, sleeps: bool
) -> None:
    found = container({"drainSeconds": 7}, kubernetes=kubernetes)
    assert f"--drain-seconds={seconds}" in found["args"]
    assert ("lifecycle" in found) == sleeps


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


def test_clients_need_no_certificate_by_default() -> None:
    assert not [arg for arg in container()["args"] if arg.startswith("--client")]
    assert "client-ca" not in str(pod()["spec"])


def test_the_port_is_the_same_in_arguments_and_container_and_found_by_name() -> None:
    values = {"port": 10260, "hostNetwork": True}
    assert "--listen=0.0.0.0:10260" in container(values)["args"]
    assert container(values)["ports"] == [
        {"name": "https", "containerPort": 10260, "protocol": "TCP"}
    ]
    assert helm.render(values).one("Service")["spec"]["ports"] == [
        {"name": "https", "protocol": "TCP", "port": 443, "targetPort": "https"}
    ]


def test_the_nodes_network_is_used_only_on_request() -> None:
    assert not {"hostNetwork", "dnsPolicy"} & set(pod()["spec"])
    values = {"port": 10260, "hostNetwork": True}
    assert pod(values)["spec"]["hostNetwork"] is True
    assert pod(values)["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert pod(values | {"dnsPolicy": "Default"})["spec"]["dnsPolicy"] == "Default"


def test_the_log_level_can_be_set() -> None:
    assert "--log-level=debug" in container({"logLevel": "debug"})["args"]


def test_the_service_and_the_deployment_select_the_pods() -> None:
    labels = pod()["metadata"]["labels"]
    selectors = [
        helm.render().one("Service")["spec"]["selector"],
        deployment()["selector"]["matchLabels"],
        helm.render().one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in pod()["spec"]["topologySpreadConstraints"]
        ),
    ]
    for selector in selectors:
        assert selector == {
            "app.kubernetes.io/name": "mendix-mesh",
            "app.kubernetes.io/instance": "mendix-mesh",
        }
        assert selector.items() <= labels.items()


def test_the_pod_passes_the_restricted_level_of_pod_security() -> None:
    spec = pod()["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostPort" not in container()["ports"][0]
    allowed = {"configMap", "emptyDir", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])


def test_ids_are_left_to_openshift_when_they_are_null() -> None:
    context = pod({"runAsUser": None})["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_a_large_id_is_written_as_a_whole_number() -> None:
    context = pod({"runAsUser": 1000650000})["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000650000,) * 3


def test_the_pod_has_no_token() -> None:
    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod()["spec"]


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


def test_the_probes_ask_the_server_itself() -> None:
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container()[probe]["httpGet"] == {"scheme": "HTTPS", "port": "https", "path": path}


def test_a_rollout_never_goes_below_the_full_number() -> None:
    assert deployment()["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }


def test_a_pod_is_given_time_before_it_stops() -> None:
    values = {"preStopSleepSeconds": 3, "terminationGracePeriodSeconds": 20}
    assert container(values)["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}
    assert pod(values)["spec"]["terminationGracePeriodSeconds"] == 20


def test_kubernetes_1_29_is_not_given_the_sleep_that_it_would_reject() -> None:
    assert "lifecycle" not in container(kubernetes="1.29.14")
    assert "lifecycle" in container(kubernetes="1.30.0-gke.1")


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


def test_files_are_mounted_where_the_arguments_look() -> None:
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["spec"]["volumes"]}
    assert mounts["settings"]["mountPath"] == "/etc/mendix-mesh/settings.yaml"
    assert mounts["settings"]["subPath"] == "settings.yaml"
    assert volumes["settings"]["configMap"]["name"] == "mendix-mesh-settings"
    assert mounts["tls"]["mountPath"] == "/etc/mendix-mesh/tls"
    assert "subPath" not in mounts["tls"]  # or a renewed certificate would never arrive
    assert volumes["tls"]["secret"]["secretName"] == "mendix-mesh-tls"
    assert mounts["tmp"]["mountPath"] == "/tmp"
    assert volumes["tmp"]["emptyDir"] == {}


def test_the_secret_of_the_certificate_can_be_named() -> None:
    spec = pod({"tls": {"secretName": "our-tls"}})["spec"]
    (tls,) = (volume for volume in spec["volumes"] if volume["name"] == "tls")
    assert tls["secret"]["secretName"] == "our-tls"


DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "mendix-mesh:0.1.0"),
        ({"repository": "example.org/mesh", "tag": "1.2"}, "example.org/mesh:1.2"),
        ({"digest": DIGEST}, f"mendix-mesh:0.1.0@{DIGEST}"),
        ({"tag": None}, "mendix-mesh:0.1.0"),
    ],
)
def test_the_image_is_made_of_its_parts(image: dict[str, Any], reference: str) -> None:
    assert container({"image": image})["image"] == reference


def test_when_to_pull_the_image_can_be_set() -> None:
    assert container()["imagePullPolicy"] == "IfNotPresent"
    assert container({"image": {"pullPolicy": "Always"}})["imagePullPolicy"] == "Always"


def test_the_number_of_pods_can_be_set() -> None:
    assert deployment()["replicas"] == 2
    assert deployment({"replicaCount": 3})["replicas"] == 3


def test_the_disruption_budget_exists_only_if_it_cannot_block_a_drain() -> None:
    assert helm.render().one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert helm.render({"replicaCount": 1}).of_kind("PodDisruptionBudget") == []
    off = {"podDisruptionBudget": {"enabled": False}}
    assert helm.render(off).of_kind("PodDisruptionBudget") == []


def test_the_priority_class_can_be_changed_or_removed() -> None:
    assert pod()["spec"]["priorityClassName"] == "system-cluster-critical"
    assert "priorityClassName" not in pod({"priorityClassName": ""})["spec"]


def test_pods_spread_over_nodes_and_zones_if_they_can() -> None:
    constraints = pod()["spec"]["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert {constraint["whenUnsatisfiable"] for constraint in constraints} == {"ScheduleAnyway"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodeSelector", {"kubernetes.io/os": "linux"}),
        ("tolerations", [{"key": "infra", "operator": "Exists"}]),
        ("affinity", {"nodeAffinity": {}}),
        ("imagePullSecrets", [{"name": "registry"}]),
    ],
)
def test_placement_and_pull_secrets_are_passed_on(key: str, value: Any) -> None:
    assert key not in pod()["spec"]
    assert pod({key: value})["spec"][key] == value


def test_resources_are_passed_on() -> None:
    assert "cpu" not in container()["resources"]["limits"]
    values = {"resources": {"requests": {"cpu": "1"}, "limits": None}}
    assert container(values)["resources"]["requests"] == {"cpu": "1", "memory": "96Mi"}


@pytest.mark.parametrize(
    "key",
    [
        *("affinity", "imagePullSecrets", "nodeSelector", "podAnnotations", "podLabels"),
        *("priorityClassName", "resources", "tolerations"),
    ],
)
def test_null_unsets_what_is_optional(key: str) -> None:
    spec = pod({key: None})["spec"]
    assert key not in spec
    assert key not in spec["containers"][0]
