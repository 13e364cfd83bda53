"""An injected pod: names, order, variables and volumes, and the effects of annotations."""

import hashlib
import json
import re
from typing import Any

import jsonpatch
import pytest

from tests.standins.linkerd import Injection, InjectionError, InjectorConfig, inject

Json = dict[str, Any]

CONFIG = "config.linkerd.io/"
NATIVE = "proxy-enable-native-sidecar"

# The variables of a proxy of edge-26.8.3 with default settings; P stands for LINKERD2_PROXY.
VARIABLES = """
    _pod_name _pod_ns _pod_uid _pod_ip _pod_nodeName _pod_containerName P_CORES P_CORES_MIN
    P_SHUTDOWN_ENDPOINT_ENABLED P_LOG P_LOG_FORMAT P_DESTINATION_SVC_ADDR
    P_DESTINATION_PROFILE_NETWORKS P_POLICY_SVC_ADDR P_POLICY_WORKLOAD P_INBOUND_DEFAULT_POLICY
    P_POLICY_CLUSTER_NETWORKS P_CONTROL_STREAM_INITIAL_TIMEOUT P_CONTROL_STREAM_IDLE_TIMEOUT
    P_CONTROL_STREAM_LIFETIME P_INBOUND_CONNECT_TIMEOUT P_OUTBOUND_CONNECT_TIMEOUT
    P_OUTBOUND_DISCOVERY_IDLE_TIMEOUT P_INBOUND_DISCOVERY_IDLE_TIMEOUT P_CONTROL_LISTEN_ADDR
    P_ADMIN_LISTEN_ADDR P_OUTBOUND_LISTEN_ADDR P_OUTBOUND_LISTEN_ADDRS P_INBOUND_LISTEN_ADDR
    P_INBOUND_IPS P_INBOUND_PORTS P_DESTINATION_PROFILE_SUFFIXES P_INBOUND_ACCEPT_KEEPALIVE
    P_OUTBOUND_CONNECT_KEEPALIVE P_INBOUND_ACCEPT_USER_TIMEOUT P_OUTBOUND_CONNECT_USER_TIMEOUT
    P_OUTBOUND_METRICS_HOSTNAME_LABELS P_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL
    P_INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT P_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL
    P_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT P_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
    P_DESTINATION_CONTEXT _pod_sa _l5d_ns _l5d_trustdomain P_IDENTITY_DIR
    P_IDENTITY_TRUST_ANCHORS P_IDENTITY_TOKEN_FILE P_IDENTITY_SVC_ADDR P_IDENTITY_LOCAL_NAME
    P_IDENTITY_SVC_NAME P_DESTINATION_SVC_NAME P_POLICY_SVC_NAME
"""


def app(annotations: dict[str, str] | None = None, **container: Any) -> Json:
    """Return an app's pod with its own init container and the opt-in annotation."""
    mendix = {"name": "mendix", "image": "shop:1", "ports": [{"containerPort": 8080}], **container}
    sidecar = {
        "name": "m2ee-sidecar",
        "image": "m2ee:1",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8800}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "named"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "shop",
            "namespace": "mendix",
            "labels": {"node-type": "master"},
            "annotations": {"linkerd.io/inject": "enabled", **(annotations or {})},
        },
        "spec": {
            "initContainers": [{"name": "prepare", "image": "prepare:1"}],
            "containers": [mendix, sidecar],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }


def injected(
    pod: Json | None = None,
    namespace: dict[str, str] | None = None,
    config: InjectorConfig | None = None,
    **annotations: str,
) -> Injection:
    """Inject a pod with these annotations. Underscores stand for hyphens after the prefix."""
    named = {CONFIG + name.replace("_", "-"): value for name, value in annotations.items()}
    of = {"metadata": {"name": "mendix", "annotations": namespace or {}}}
    injection = inject(pod or app(named), of, config or InjectorConfig())
    assert injection.skipped == ()
    return injection


def names(injection: Injection, field: str) -> list[str]:
    return [entry["name"] for entry in injection.pod["spec"][field]]


def container(injection: Injection, name: str) -> Json:
    spec = injection.pod["spec"]
    (found,) = (c for c in spec["initContainers"] + spec["containers"] if c["name"] == name)
    assert isinstance(found, dict)
    return found


def env(injection: Injection) -> dict[str, str]:
    """Return the proxy's variables; of two with one name the last wins, as in Kubernetes."""
    variables = container(injection, "linkerd-proxy")["env"]
    return {entry["name"]: entry.get("value", "") for entry in variables}


def init_option(injection: Injection, name: str) -> str | None:
    arguments = container(injection, "linkerd-init")["args"]
    return arguments[arguments.index(name) + 1] if name in arguments else None


def test_a_native_proxy_starts_before_the_pods_own_init_containers() -> None:
    injection = injected()
    assert names(injection, "initContainers") == ["linkerd-init", "linkerd-proxy", "prepare"]
    assert names(injection, "containers") == ["mendix", "m2ee-sidecar"]
    proxy = container(injection, "linkerd-proxy")
    assert proxy["restartPolicy"] == "Always"
    assert proxy["startupProbe"]["failureThreshold"] == 120
    assert "lifecycle" not in proxy


def test_a_classic_proxy_is_the_first_container_and_its_init_container_the_last() -> None:
    injection = injected(config=InjectorConfig(native=False))
    assert names(injection, "initContainers") == ["prepare", "linkerd-init"]
    assert names(injection, "containers") == ["linkerd-proxy", "mendix", "m2ee-sidecar"]
    proxy = container(injection, "linkerd-proxy")
    await_command = proxy["lifecycle"]["postStart"]["exec"]["command"]
    assert await_command == ["/usr/lib/linkerd/linkerd-await", "--timeout=2m", "--port=4191"]
    assert not {"restartPolicy", "startupProbe"} & proxy.keys()


def test_a_classic_proxy_without_await_is_the_last_container() -> None:
    injection = injected(config=InjectorConfig(native=False), proxy_await="disabled")
    assert names(injection, "containers") == ["mendix", "m2ee-sidecar", "linkerd-proxy"]
    assert "lifecycle" not in container(injection, "linkerd-proxy")


def test_a_native_proxy_without_await_has_no_startup_probe() -> None:
    proxy = container(injected(proxy_await="disabled"), "linkerd-proxy")
    assert "startupProbe" not in proxy


@pytest.mark.parametrize("native", [True, False])
def test_with_cni_a_validator_without_capabilities_replaces_the_init_container(
    *, native: bool
) -> None:
    injection = injected(config=InjectorConfig(cni=True, native=native))
    inits = names(injection, "initContainers")
    validator, proxy = "linkerd-network-validator", "linkerd-proxy"
    assert inits == ([validator, proxy, "prepare"] if native else ["prepare", validator])
    security = container(injection, validator)["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert names(injection, "volumes") == [
        "scratch",
        "linkerd-identity-end-entity",
        "linkerd-identity-token",
    ]


def test_the_volumes_come_after_the_pods_own() -> None:
    injection = injected()
    assert names(injection, "volumes") == [
        "scratch",
        "linkerd-proxy-init-xtables-lock",
        "linkerd-identity-end-entity",
        "linkerd-identity-token",
    ]
    token = injection.pod["spec"]["volumes"][3]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "identity.l5d.io"
    assert token["expirationSeconds"] == 86400


@pytest.mark.parametrize("native", [True, False])
def test_the_proxy_has_the_variables_of_linkerd_in_its_order(*, native: bool) -> None:
    proxy = container(injected(config=InjectorConfig(native=native)), "linkerd-proxy")
    expected = [re.sub("^P_", "LINKERD2_PROXY_", name) for name in VARIABLES.split()]
    assert [entry["name"] for entry in proxy["env"]] == expected


def test_the_proxys_variables_name_the_identity_and_the_control_plane() -> None:
    variables = env(injected(config=InjectorConfig(control_plane_namespace="mesh")))
    identity = "serviceaccount.identity.mesh.cluster.local"
    assert variables["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"] == f"$(_pod_sa).$(_pod_ns).{identity}"
    address = variables["LINKERD2_PROXY_IDENTITY_SVC_ADDR"]
    assert address == "linkerd-identity-headless.mesh.svc.cluster.local.:8080"


def test_the_proxy_knows_the_declared_and_the_probed_ports() -> None:
    assert env(injected())["LINKERD2_PROXY_INBOUND_PORTS"] == "8080,8800"


def test_the_proxy_declares_its_ports_and_runs_as_its_own_user() -> None:
    proxy = container(injected(), "linkerd-proxy")
    ports = [(port["name"], port["containerPort"]) for port in proxy["ports"]]
    assert ports == [("linkerd-proxy", 4143), ("linkerd-admin", 4191)]
    assert proxy["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 2102,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_the_init_container_uses_the_proxys_image_and_may_set_up_the_network() -> None:
    init = container(injected(), "linkerd-init")
    assert init["image"] == "cr.l5d.io/linkerd/proxy:edge-26.8.3"
    assert init["command"] == ["/usr/lib/linkerd/linkerd2-proxy-init"]
    assert init["args"] == [
        *("--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path", "iptables-nft-save"),
        *("--ipv6=false", "--incoming-proxy-port", "4143", "--outgoing-proxy-port", "4140"),
        *("--proxy-uid", "2102", "--inbound-ports-to-ignore", "4190,4191,4567,4568"),
        *("--outbound-ports-to-ignore", "4567,4568"),
    ]
    assert init["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"]}


def test_the_pod_bears_the_injectors_labels_and_annotations() -> None:
    config = InjectorConfig(trust_anchors="PEM\n")
    metadata = injected(config=config).pod["metadata"]
    assert metadata["annotations"] == {
        "linkerd.io/created-by": "linkerd/proxy-injector edge-26.8.3",
        "linkerd.io/inject": "enabled",
        "linkerd.io/proxy-version": "edge-26.8.3",
        "linkerd.io/trust-root-sha256": hashlib.sha256(b"PEM\n").hexdigest(),
    }
    assert metadata["labels"] == {
        "linkerd.io/control-plane-ns": "linkerd",
        "linkerd.io/workload-ns": "mendix",
        "node-type": "master",
    }


@pytest.mark.parametrize(
    ("references", "owner", "label"),
    [
        ([("ReplicaSet", "shop-1")], None, ("replicaset", "shop-1")),
        ([("ReplicaSet", "shop-1")], ("Deployment", "shop"), ("deployment", "shop")),
        ([("Job", "nightly-1")], None, ("job", "nightly-1")),
        ([("Job", "nightly-1")], ("CronJob", "nightly"), None),
        ([("StatefulSet", "db")], None, ("statefulset", "db")),
        ([("DaemonSet", "log")], None, ("daemonset", "log")),
        ([("Build", "shop-build")], None, None),
        ([("StorageInstance", "shop-database")], None, None),
        ([("Job", "a"), ("Job", "b")], None, None),
        ([], None, None),
    ],
)
def test_the_owner_is_a_label_for_the_kinds_that_linkerd_knows(
    references: list[tuple[str, str]], owner: tuple[str, str] | None, label: tuple[str, str] | None
) -> None:
    pod = app()
    pod["metadata"]["ownerReferences"] = [{"kind": k, "name": n} for k, n in references]
    resolved = {"kind": owner[0], "name": owner[1]} if owner else None
    labels = inject(pod, None, InjectorConfig(), owner=resolved).pod["metadata"]["labels"]
    found = {k: v for k, v in labels.items() if k.startswith("linkerd.io/proxy-")}
    assert found == ({f"linkerd.io/proxy-{label[0]}": label[1]} if label else {})


def test_the_patch_has_the_operations_of_linkerd_in_its_order() -> None:
    bare = {
        "kind": "Pod",
        "metadata": {"name": "bare", "namespace": "mendix"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    of = {"metadata": {"annotations": {"linkerd.io/inject": "enabled"}}}
    injection = inject(bare, of, InjectorConfig())
    assert [operation["path"] for operation in injection.patch] == [
        "/metadata/annotations",
        "/metadata/annotations/linkerd.io~1created-by",
        "/metadata/annotations/linkerd.io~1inject",
        "/metadata/annotations/linkerd.io~1proxy-version",
        "/metadata/annotations/linkerd.io~1trust-root-sha256",
        "/metadata/labels",
        "/metadata/labels/linkerd.io~1control-plane-ns",
        "/metadata/labels/linkerd.io~1workload-ns",
        "/spec/volumes",
        "/spec/initContainers",
        "/spec/volumes/-",
        "/spec/initContainers/0",
        "/spec/volumes/-",
        "/spec/volumes/-",
        "/spec/initContainers/1",
    ]
    assert jsonpatch.apply_patch(bare, json.loads(json.dumps(injection.patch))) == injection.pod


def test_the_proxy_takes_over_the_first_containers_capabilities() -> None:
    capabilities = {"add": ["CHOWN"], "drop": ["NET_RAW", "SYS_ADMIN"]}
    injection = injected(app(securityContext={"capabilities": capabilities}))
    proxy = container(injection, "linkerd-proxy")["securityContext"]["capabilities"]
    init = container(injection, "linkerd-init")["securityContext"]["capabilities"]
    assert proxy == capabilities
    assert init == {"add": ["NET_ADMIN", "NET_RAW", "CHOWN"], "drop": ["SYS_ADMIN"]}


def test_the_proxy_shares_the_first_containers_token_mount() -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    mount = {"name": "kube-api-access-x", "mountPath": path, "readOnly": True}
    injection = injected(app(volumeMounts=[{"name": "scratch", "mountPath": "/tmp"}, mount]))
    assert container(injection, "linkerd-proxy")["volumeMounts"][-1] == mount
    assert container(injection, "linkerd-init")["volumeMounts"][-1] == mount


@pytest.mark.parametrize(
    ("annotation", "value", "variable", "expected"),
    [
        ("proxy-log-level", "debug", "LOG", "debug,[{headers}]=off,[{request}]=off"),
        ("proxy-log-http-headers", "insecure", "LOG", "warn,linkerd=info,hickory=error"),
        ("proxy-log-format", "json", "LOG_FORMAT", "json"),
        ("access-log", "apache", "ACCESS_LOG", "apache"),
        ("default-inbound-policy", "deny", "INBOUND_DEFAULT_POLICY", "deny"),
        ("default-inbound-policy", "audit", "INBOUND_DEFAULT_POLICY", "audit"),
        ("default-inbound-policy", "all", "INBOUND_DEFAULT_POLICY", "all-unauthenticated"),
        ("proxy-admin-shutdown", "enabled", "SHUTDOWN_ENDPOINT_ENABLED", "true"),
        ("proxy-admin-shutdown", "true", "SHUTDOWN_ENDPOINT_ENABLED", "false"),
        ("proxy-require-identity-inbound-ports", "80", "INBOUND_PORTS_REQUIRE_IDENTITY", "80"),
        ("enable-external-profiles", "true", "DESTINATION_PROFILE_SUFFIXES", "."),
        ("enable-gateway", "true", "INBOUND_GATEWAY_SUFFIXES", "svc.cluster.local."),
        ("proxy-metrics-hostname-labels", "t", "OUTBOUND_METRICS_HOSTNAME_LABELS", "true"),
        ("proxy-outbound-connect-timeout", "2s", "OUTBOUND_CONNECT_TIMEOUT", "2000ms"),
        ("proxy-inbound-connect-timeout", "1m1.5s", "INBOUND_CONNECT_TIMEOUT", "61500ms"),
        ("proxy-inbound-connect-timeout", "soon", "INBOUND_CONNECT_TIMEOUT", "100ms"),
        (
            "proxy-inbound-discovery-cache-unused-timeout",
            "1m",
            "INBOUND_DISCOVERY_IDLE_TIMEOUT",
            "60s",
        ),
        (
            "proxy-disable-outbound-protocol-detect-timeout",
            "true",
            "OUTBOUND_DETECT_TIMEOUT",
            "365d",
        ),
        ("shutdown-grace-period", "30s", "SHUTDOWN_GRACE_PERIOD", "30000ms"),
        ("proxy-cpu-request", "1500m", "CORES_MIN", "2"),
        ("proxy-cpu-limit", "3", "CORES_MAX", "3"),
        ("proxy-cpu-ratio-limit", "0.5", "CORES_MAX_RATIO", "0.5"),
        ("inbound-port", "9143", "INBOUND_LISTEN_ADDR", "0.0.0.0:9143"),
        ("inbound-port", "9_143", "INBOUND_LISTEN_ADDR", "0.0.0.0:4143"),
        ("outbound-port", "9140", "OUTBOUND_LISTEN_ADDR", "127.0.0.1:9140"),
        ("control-port", "9190", "CONTROL_LISTEN_ADDR", "0.0.0.0:9190"),
        ("opaque-ports", "80, 90-95,x,", "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "80,90-95"),
        ("pod-inbound-ports", "1,2", "INBOUND_PORTS", "8080,8800"),
    ],
)
def test_an_annotation_changes_a_variable_or_is_ignored(
    annotation: str, value: str, variable: str, expected: str
) -> None:
    variables = env(injected(app({CONFIG + annotation: value})))
    assert variables[f"LINKERD2_PROXY_{variable}"] == expected


def test_opaque_ports_may_be_named() -> None:
    pod = app(
        {CONFIG + "opaque-ports": "database"}, ports=[{"containerPort": 1, "name": "database"}]
    )
    variable = "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"
    assert env(injected(pod))[variable] == "1"


def test_exposed_ports_that_are_opaque_by_default_are_annotated() -> None:
    injection = injected(app(ports=[{"containerPort": 5432}, {"containerPort": 80}]))
    assert injection.pod["metadata"]["annotations"][CONFIG + "opaque-ports"] == "5432"
    variable = "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"
    assert env(injection)[variable] == "5432"


@pytest.mark.parametrize(
    ("annotation", "value", "option", "expected"),
    [
        ("skip-inbound-ports", "80", "--inbound-ports-to-ignore", "4190,4191,80"),
        ("skip-inbound-ports", "1-65535", "--inbound-ports-to-ignore", "4190,4191,1-65535"),
        ("skip-inbound-ports", "", "--inbound-ports-to-ignore", "4190,4191"),
        ("admin-port", "9191", "--inbound-ports-to-ignore", "4190,9191,4567,4568"),
        ("skip-outbound-ports", "5432", "--outbound-ports-to-ignore", "5432"),
        ("skip-outbound-ports", "", "--outbound-ports-to-ignore", None),
        ("skip-subnets", "10.0.0.0/8", "--subnets-to-ignore", "10.0.0.0/8"),
        ("proxy-uid", "3000", "--proxy-uid", "3000"),
        ("proxy-uid", "root", "--proxy-uid", "2102"),
        ("proxy-gid", "3000", "--proxy-gid", "3000"),
        ("inbound-port", "9143", "--incoming-proxy-port", "9143"),
    ],
)
def test_an_annotation_changes_an_option_of_the_init_container(
    annotation: str, value: str, option: str, expected: str | None
) -> None:
    assert init_option(injected(app({CONFIG + annotation: value})), option) == expected


def test_the_proxy_runs_with_the_annotated_uid_and_gid() -> None:
    security = container(injected(proxy_uid="1001", proxy_gid="0"), "linkerd-proxy")
    assert security["securityContext"]["runAsUser"] == 1001
    assert security["securityContext"]["runAsGroup"] == 0


@pytest.mark.parametrize(
    ("annotations", "image"),
    [
        ({"proxy-image": "mirror:5000/l5d"}, "mirror:5000/l5d:edge-26.8.3"),
        ({"proxy-version": "edge-1"}, "cr.l5d.io/linkerd/proxy:edge-1"),
        ({"proxy-version": ""}, "cr.l5d.io/linkerd/proxy:edge-26.8.3"),
        ({"proxy-image": "evil", "proxy-version": "1"}, "evil:1"),
    ],
)
def test_annotations_name_the_image_of_the_proxy_and_the_init_container(
    annotations: dict[str, str], image: str
) -> None:
    injection = injected(app({CONFIG + name: value for name, value in annotations.items()}))
    assert container(injection, "linkerd-proxy")["image"] == image
    assert container(injection, "linkerd-init")["image"] == image
    version = injection.pod["metadata"]["annotations"]["linkerd.io/proxy-version"]
    assert version == image.rpartition(":")[2]


def test_resources_that_are_quantities_are_set_on_proxy_and_init_container() -> None:
    injection = injected(proxy_cpu_request="100m", proxy_memory_limit="64Mi", proxy_cpu_limit="a")
    expected = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
    assert container(injection, "linkerd-proxy")["resources"] == expected
    assert container(injection, "linkerd-init")["resources"] == expected


@pytest.mark.parametrize("native", [True, False])
def test_the_debug_sidecar_is_the_last_ordinary_container(*, native: bool) -> None:
    injection = injected(config=InjectorConfig(native=native), enable_debug_sidecar="true")
    assert names(injection, "containers")[-1] == "linkerd-debug"
    assert names(injected(enable_debug_sidecar="yes"), "containers")[-1] == "m2ee-sidecar"


@pytest.mark.parametrize(
    ("default", "annotations", "native"),
    [
        (True, {CONFIG + NATIVE: "false"}, False),
        (False, {CONFIG + NATIVE: "true"}, True),
        (False, {"config.beta.linkerd.io/" + NATIVE: "true"}, True),
        (False, {"config.alpha.linkerd.io/" + NATIVE: "1"}, True),
        (
            True,
            {CONFIG + NATIVE: "false", "config.beta.linkerd.io/" + NATIVE: "true"},
            False,
        ),
        (
            True,
            {
                "config.beta.linkerd.io/" + NATIVE: "false",
                "config.alpha.linkerd.io/" + NATIVE: "true",
            },
            False,
        ),
        (False, {CONFIG + NATIVE: "yes", "config.beta.linkerd.io/" + NATIVE: "true"}, False),
    ],
)
def test_the_most_stable_native_sidecar_annotation_decides(
    *, default: bool, annotations: dict[str, str], native: bool
) -> None:
    injection = injected(app(annotations), config=InjectorConfig(native=default))
    assert ("linkerd-proxy" in names(injection, "initContainers")) is native


@pytest.mark.parametrize(
    ("prefix", "inherited"),
    [(CONFIG, True), ("config.alpha.linkerd.io/", True), ("config.beta.linkerd.io/", False)],
)
def test_only_the_beta_native_sidecar_annotation_is_not_inherited(
    prefix: str, *, inherited: bool
) -> None:
    injection = injected(namespace={prefix + NATIVE: "true"}, config=InjectorConfig(native=False))
    assert ("linkerd-proxy" in names(injection, "initContainers")) is inherited
    assert (prefix + NATIVE in injection.pod["metadata"]["annotations"]) is inherited


def test_a_pod_inherits_what_it_does_not_say_itself() -> None:
    of_namespace = {
        CONFIG + "skip-inbound-ports": "1",
        CONFIG + "skip-outbound-ports": "2",
        CONFIG + "enable-gateway": "true",
        CONFIG + "unknown": "x",
        "other.example.com/key": "x",
    }
    injection = injected(namespace=of_namespace, skip_inbound_ports="3")
    annotations = injection.pod["metadata"]["annotations"]
    assert annotations[CONFIG + "skip-inbound-ports"] == "3"
    assert annotations[CONFIG + "skip-outbound-ports"] == "2"
    not_inherited = {CONFIG + "enable-gateway", CONFIG + "unknown", "other.example.com/key"}
    assert not not_inherited & annotations.keys()
    assert init_option(injection, "--inbound-ports-to-ignore") == "4190,4191,3"
    assert init_option(injection, "--outbound-ports-to-ignore") == "2"


@pytest.mark.parametrize(
    ("at_namespace", "at_pod", "ingress"),
    [
        ("ingress", None, True),
        ("ingress", "enabled", False),
        ("ingress", "", False),
        ("enabled", "ingress", True),
        (None, "ingress", True),
        ("enabled", None, False),
    ],
)
def test_the_pods_own_value_decides_on_the_ingress_mode(
    at_namespace: str | None, at_pod: str | None, *, ingress: bool
) -> None:
    pod = app()
    del pod["metadata"]["annotations"]["linkerd.io/inject"]
    if at_pod is not None:
        pod["metadata"]["annotations"]["linkerd.io/inject"] = at_pod
    of = {} if at_namespace is None else {"linkerd.io/inject": at_namespace}
    injection = injected(pod, of)
    assert env(injection).get("LINKERD2_PROXY_INGRESS_MODE") == ("true" if ingress else None)
    kept = at_namespace if at_pod is None else at_pod
    assert injection.pod["metadata"]["annotations"]["linkerd.io/inject"] == kept


def test_additional_variables_come_last_and_so_override_the_injectors() -> None:
    annotation = CONFIG + "proxy-additional-env"
    address = "LINKERD2_PROXY_IDENTITY_SVC_ADDR"
    injection = injected(
        app(
            {
                annotation: json.dumps(
                    [{"name": "C", "value": "pod"}, {"name": address, "value": ""}]
                )
            }
        ),
        {annotation: json.dumps([{"name": n, "value": "namespace"} for n in "BC"])},
        InjectorConfig(additional_env=tuple({"name": n, "value": "helm"} for n in "ABC")),
    )
    variables = container(injection, "linkerd-proxy")["env"]
    assert variables[-4:] == [
        {"name": "A", "value": "helm"},
        {"name": "B", "value": "namespace"},
        {"name": "C", "value": "pod"},
        {"name": address, "value": ""},
    ]
    assert [entry["name"] for entry in variables].count(address) == 2


@pytest.mark.parametrize("broken", ["", "{", "[1]", '[{"value": "x"}]', "null"])
def test_additional_variables_that_are_no_list_of_variables_are_ignored(broken: str) -> None:
    assert env(injected(proxy_additional_env=broken)) == env(injected())


@pytest.mark.parametrize(
    ("annotation", "value"), [("proxy-log-http-headers", "all"), ("close-wait-timeout", "30s")]
)
def test_values_on_which_the_template_fails_are_errors(annotation: str, value: str) -> None:
    with pytest.raises(InjectionError):
        injected(app({CONFIG + annotation: value}))


def test_a_close_wait_timeout_needs_an_init_container_that_runs_as_root() -> None:
    injection = injected(config=InjectorConfig(init_as_root=True), close_wait_timeout="1m")
    assert init_option(injection, "--timeout-close-wait-secs") == "60"
    assert container(injection, "linkerd-init")["securityContext"]["privileged"] is True


def test_waiting_before_exit_is_for_classic_sidecars() -> None:
    annotation = {"config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "9"}
    classic = injected(app(annotation), config=InjectorConfig(native=False))
    hooks = container(classic, "linkerd-proxy")["lifecycle"]
    assert hooks["preStop"]["exec"]["command"] == ["/bin/sleep", "9"]
    assert "lifecycle" not in container(injected(app(annotation)), "linkerd-proxy")


def test_without_token_projection_the_proxy_uses_the_pods_own_token() -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    pod = app(volumeMounts=[{"name": "token", "mountPath": path}])
    injection = injected(pod, config=InjectorConfig(token_projection=False))
    assert "linkerd-identity-token" not in names(injection, "volumes")
    assert env(injection)["LINKERD2_PROXY_IDENTITY_TOKEN_FILE"] == f"{path}/token"
