"""Which pods the stand-in injector injects: the decision of linkerd2's pkg/inject/report.go."""

from typing import Any

import pytest

from tests.standins.linkerd import (
    InjectorConfig,
    inject,
    selected,
    skip_reasons,
)

Json = dict[str, Any]

INJECT = "linkerd.io/inject"
OPAQUE_PORTS = "config.linkerd.io/opaque-ports"
ABSENT = "injection_enable_annotation_absent"
DISABLED = "injection_disable_annotation_present"
INVALID_POD = "invalid_inject_annotation_at_workload"
INVALID_NAMESPACE = "invalid_inject_annotation_at_ns"


def pod(inject_value: str | None = None, **spec: Any) -> Json:
    """Return a pod of one container, which names itself in the namespace `mendix`."""
    metadata: Json = {"name": "shop", "namespace": "mendix"}
    if inject_value is not None:
        metadata["annotations"] = {INJECT: inject_value}
    containers = [{"name": "mendix", "image": "registry.example.com/apps/shop:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers, **spec},
    }


def namespace(inject_value: str | None = None, **labels: str) -> Json:
    annotations = {} if inject_value is None else {INJECT: inject_value}
    return {"metadata": {"name": "mendix", "annotations": annotations, "labels": labels}}


@pytest.mark.parametrize(
    ("at_namespace", "at_pod", "reason"),
    [
        ("enabled", None, ""),
        ("enabled", "", ""),
        ("enabled", "enabled", ""),
        ("enabled", "ingress", ""),
        ("enabled", "disabled", DISABLED),
        ("enabled", "true", INVALID_POD),
        ("ingress", None, ""),
        ("ingress", "", ""),
        ("ingress", "enabled", ""),
        ("ingress", "ingress", ""),
        ("ingress", "disabled", DISABLED),
        ("ingress", "false", INVALID_POD),
        ("disabled", None, ABSENT),
        ("disabled", "", ABSENT),
        ("disabled", "enabled", ""),
        ("disabled", "ingress", ""),
        ("disabled", "disabled", ABSENT),
        ("disabled", "yes", INVALID_POD),
        (None, None, ABSENT),
        (None, "", ABSENT),
        (None, "enabled", ""),
        (None, "ingress", ""),
        (None, "disabled", ABSENT),
        (None, "Enabled", INVALID_POD),
        ("", None, ABSENT),
        ("", "enabled", ""),
        ("true", None, INVALID_NAMESPACE),
        ("true", "enabled", INVALID_NAMESPACE),
        ("true", "disabled", INVALID_NAMESPACE),
        ("Enabled", "true", INVALID_NAMESPACE),
    ],
)
def test_the_annotations_of_pod_and_namespace_decide(
    at_namespace: str | None, at_pod: str | None, reason: str
) -> None:
    injection = inject(pod(at_pod), namespace(at_namespace), InjectorConfig())
    assert injection.skipped == ((reason,) if reason else ())
    in_pod = {container["name"] for container in injection.pod["spec"].get("initContainers", ())}
    assert in_pod == (set() if reason else {"linkerd-init", "linkerd-proxy"})


def test_a_label_in_place_of_the_annotation_is_not_read() -> None:
    labelled = pod()
    labelled["metadata"]["labels"] = {INJECT: "enabled"}
    of_label = namespace(**{INJECT: "enabled"})
    assert skip_reasons(labelled, of_label, InjectorConfig()) == (ABSENT,)


def test_a_pod_on_the_host_network_is_skipped() -> None:
    found = skip_reasons(pod("enabled", hostNetwork=True), namespace(), InjectorConfig())
    assert found == ("host_network_enabled",)


@pytest.mark.parametrize(
    ("field", "name", "image", "skipped"),
    [
        ("containers", "linkerd-proxy", "busybox", True),
        ("containers", "istio-proxy", "busybox", True),
        ("containers", "other", "cr.l5d.io/linkerd/proxy:edge-26.8.3", True),
        ("containers", "other", "gcr.io/istio-release/proxyv2:1.31", True),
        ("containers", "other", "cr.l5d.io/linkerd/proxy@sha256:aa", False),
        ("containers", "linkerd-init", "busybox", False),
        ("containers", "other", "cr.l5d.io/linkerd/proxy-init:v2", False),
        ("initContainers", "linkerd-proxy", "busybox", True),
        ("initContainers", "istio-proxy", "busybox", True),
        ("initContainers", "other", "cr.l5d.io/linkerd/proxy:edge-26.8.3", True),
        ("initContainers", "linkerd-init", "busybox", True),
        ("initContainers", "istio-init", "busybox", True),
        ("initContainers", "other", "cr.l5d.io/linkerd/proxy-init:v2", True),
        ("initContainers", "other", "gcr.io/istio-release/proxy_init:1.31", True),
        ("initContainers", "linkerd-network-validator", "busybox", False),
        ("initContainers", "other", "mirror.example.com/linkerd/proxy:1", False),
    ],
)
def test_a_sidecar_is_recognised_by_its_name_or_a_well_known_image(
    field: str, name: str, image: str, *, skipped: bool
) -> None:
    with_sidecar = pod("enabled")
    with_sidecar["spec"].setdefault(field, []).append({"name": name, "image": image})
    reasons = skip_reasons(with_sidecar, namespace(), InjectorConfig())
    assert reasons == (("sidecar_already_exists",) if skipped else ())


def test_all_reasons_are_given_in_the_order_of_the_injector() -> None:
    unlucky = pod("no", hostNetwork=True, automountServiceAccountToken=False)
    unlucky["spec"]["containers"].append({"name": "istio-proxy", "image": "x"})
    assert skip_reasons(unlucky, namespace(), InjectorConfig(token_projection=False)) == (
        "host_network_enabled",
        "sidecar_already_exists",
        INVALID_POD,
        "disabled_automount_service_account_token_account",
    )


@pytest.mark.parametrize(("projection", "skipped"), [(True, False), (False, True)])
def test_a_pod_without_token_is_skipped_only_if_linkerd_projects_none(
    *, projection: bool, skipped: bool
) -> None:
    config = InjectorConfig(token_projection=projection)
    without = pod("enabled", automountServiceAccountToken=False)
    assert bool(skip_reasons(without, namespace(), config)) is skipped


def test_without_token_projection_the_first_container_must_mount_the_token() -> None:
    config = InjectorConfig(token_projection=False)
    mounted = pod("enabled")
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    mounted["spec"]["containers"][0]["volumeMounts"] = [{"name": "token", "mountPath": path}]
    assert skip_reasons(mounted, namespace(), config) == ()
    assert skip_reasons(pod("enabled"), namespace(), config) != ()


def test_udp_ports_jobs_and_the_proxys_uid_are_no_reason_to_skip() -> None:
    odd = pod("enabled", restartPolicy="Never", securityContext={"runAsUser": 2102})
    odd["spec"]["containers"][0]["ports"] = [{"containerPort": 53, "protocol": "UDP"}]
    odd["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "nightly"}]
    assert skip_reasons(odd, namespace(), InjectorConfig()) == ()


@pytest.mark.parametrize(
    ("port", "at_namespace", "own", "expected"),
    [
        (5432, None, None, "5432"),
        (8080, None, None, None),
        (8080, "8080", None, "8080"),
        (5432, "9000", None, "9000"),
        (5432, "9000", "1433", "1433"),
    ],
)
def test_a_skipped_pod_still_gets_the_annotation_of_its_opaque_ports(
    port: int, at_namespace: str | None, own: str | None, expected: str | None
) -> None:
    skipped, of = pod("disabled"), namespace()
    skipped["spec"]["containers"][0]["ports"] = [{"containerPort": port}]
    if own:
        skipped["metadata"]["annotations"][OPAQUE_PORTS] = own
    if at_namespace:
        of["metadata"]["annotations"][OPAQUE_PORTS] = at_namespace
    injection = inject(skipped, of, InjectorConfig())
    assert injection.skipped == (ABSENT,)
    assert injection.pod["metadata"]["annotations"].get(OPAQUE_PORTS) == expected
    assert {operation["op"] for operation in injection.patch} <= {"add"}


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": 5432}, "5432"),
        ({"port": 80, "targetPort": 3306}, "80"),
        ({"port": 3306, "targetPort": 8080}, None),
        ({"port": 3306, "targetPort": "database"}, None),
    ],
)
def test_a_service_only_gets_the_annotation_of_its_opaque_ports(
    port: Json, expected: str | None
) -> None:
    service = {"kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [port]}}
    injection = inject(service, namespace("enabled"), InjectorConfig())
    assert injection.skipped == ("unsupported_resource",)
    assert injection.pod["metadata"].get("annotations", {}).get(OPAQUE_PORTS) == expected


@pytest.mark.parametrize(
    ("labels_of_pod", "labels_of_namespace", "name", "sent"),
    [
        ({}, {}, "mendix", True),
        ({"linkerd.io/control-plane-component": "x"}, {}, "mendix", False),
        ({"linkerd.io/control-plane-component": ""}, {}, "mendix", False),
        ({"linkerd.io/cni-resource": "true"}, {}, "mendix", False),
        ({}, {"config.linkerd.io/admission-webhooks": "disabled"}, "mendix", False),
        ({}, {"config.linkerd.io/admission-webhooks": "enabled"}, "mendix", True),
        ({}, {}, "kube-system", False),
        ({}, {}, "cert-manager", False),
    ],
)
def test_labels_keep_a_pod_from_the_injector(
    labels_of_pod: dict[str, str], labels_of_namespace: dict[str, str], name: str, *, sent: bool
) -> None:
    labelled, of = pod("enabled"), namespace("enabled", **labels_of_namespace)
    labelled["metadata"]["labels"] = labels_of_pod
    of["metadata"]["name"] = name
    assert selected(labelled, of) is sent
