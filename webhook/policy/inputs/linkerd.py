"""The pod annotations and labels that Linkerd's programs read, in 2.14 to edge-26.8.

The programs are the injector, the CNI plugin and the control plane. Sources: linkerd2
pkg/k8s/labels.go, pkg/inject/inject.go, cli/cmd/doc.go, charts/patch; and the effect of each
annotation on pods that the real injector created.
"""

import json
from collections.abc import Iterator
from typing import Any

from webhook.policy.inputs import Domains, Input
from webhook.policy.inputs import forms as f

CONFIG = "config.linkerd.io/"
_ALPHA, _BETA = "config.alpha.linkerd.io/", "config.beta.linkerd.io/"

#: Variables of the proxy that do not affect what is encrypted.
HARMLESS_ENV = frozenset({
    "LINKERD2_PROXY_LOG", "LINKERD2_PROXY_LOG_FORMAT", "LINKERD2_PROXY_ACCESS_LOG",
    "LINKERD2_PROXY_CORES", "LINKERD2_PROXY_CORES_MIN", "LINKERD2_PROXY_CORES_MAX",
    "LINKERD2_PROXY_CORES_MAX_RATIO", "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD",
    "LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT",
    "LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", "LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT",
    "LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT",
    "LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT",
    "LINKERD2_PROXY_OUTBOUND_ACCEPT_KEEPALIVE", "LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE",
    "LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE", "LINKERD2_PROXY_INBOUND_CONNECT_KEEPALIVE",
    "LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS",
    "RUST_BACKTRACE", "TZ",
})  # fmt: skip
_LONGEST_ENV = 8192


def _additional(text: str) -> Iterator[str]:
    """Judge the JSON list of additional variables: only harmless names with plain values."""
    if not text:
        return
    try:
        listed = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        yield "is not a JSON list of variables"
        return
    if not isinstance(listed, list):
        yield "is not a JSON list of variables"
        return
    for entry in listed:
        if not isinstance(entry, dict) or not entry.keys() <= {"name", "value"}:
            yield "must only contain entries with name and value"
        elif entry.get("name") not in HARMLESS_ENV:
            yield f"must not set {str(entry.get('name'))[:63]}"
        elif f.LOG_LEVEL.wrong(str(entry.get("value", ""))):
            yield f"must not give {entry['name']} this value"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of pairs whose keys all differ, because Go's decoder ignores their case."""
    made = {key.lower(): value for key, value in pairs}
    if len(made) < len(pairs) or any(not key.islower() for key, _ in pairs):
        raise ValueError
    return made


POLICIES = (
    "all-authenticated", "cluster-authenticated", "deny", "all-unauthenticated",
    "cluster-unauthenticated", "audit",
)  # fmt: skip
_BYPASS = "capture-bypassed"


def _config(**inputs: Input) -> dict[str, Input]:
    return {CONFIG + name.replace("_", "-"): found for name, found in inputs.items()}


ANNOTATIONS: dict[str, Input] = {
    # Another check judges which values opt in and which opt out.
    "linkerd.io/inject": Input(f.TEXT),
    "linkerd.io/created-by": Input(f.TEXT),
    # The injector overwrites these, whatever the author wrote.
    "linkerd.io/proxy-version": Input(f.TEXT),
    "linkerd.io/trust-root-sha256": Input(f.TEXT),
    "linkerd.io/identity-mode": Input(f.TEXT),
    _ALPHA + "proxy-wait-before-exit-seconds": Input(f.NUMBER),
    _ALPHA + "proxy-enable-native-sidecar": Input(f.BOOLEAN),
    _BETA + "proxy-enable-native-sidecar": Input(f.BOOLEAN),
    **_config(
        proxy_enable_native_sidecar=Input(f.BOOLEAN),
        proxy_image=Input(f.ADMIN_ONLY, "admin", "proxy-image-untrusted"),
        proxy_version=Input(f.ADMIN_ONLY, "admin", "proxy-image-untrusted"),
        init_image=Input(f.ADMIN_ONLY, "admin", "proxy-image-untrusted"),
        init_image_version=Input(f.ADMIN_ONLY, "admin", "proxy-image-untrusted"),
        image_pull_policy=Input(f.PULL_POLICY),
        enable_debug_sidecar=Input(f.BOOLEAN),
        debug_image=Input(f.IMAGE),
        debug_image_version=Input(f.NAME),
        debug_image_pull_policy=Input(f.PULL_POLICY),
        control_port=Input(f.PORT, "bypass", _BYPASS),
        admin_port=Input(f.PORT, "bypass", _BYPASS),
        skip_inbound_ports=Input(f.PORTS, "bypass", _BYPASS),
        skip_outbound_ports=Input(f.PORTS, "bypass", _BYPASS),
        skip_subnets=Input(f.CIDRS, "bypass", _BYPASS),
        # linkerd-init must agree with the proxy, and the CNI plugin must agree with the settings.
        inbound_port=Input(f.PORT),
        outbound_port=Input(f.PORT),
        pod_inbound_ports=Input(f.PORTS),
        opaque_ports=Input(f.PORTS_OR_NAMES),
        proxy_require_identity_inbound_ports=Input(f.PORTS),
        proxy_cpu_request=Input(f.QUANTITY),
        proxy_cpu_limit=Input(f.QUANTITY),
        proxy_cpu_ratio_limit=Input(f.RATIO),
        proxy_memory_request=Input(f.QUANTITY),
        proxy_memory_limit=Input(f.QUANTITY),
        proxy_ephemeral_storage_request=Input(f.QUANTITY),
        proxy_ephemeral_storage_limit=Input(f.QUANTITY),
        # Whether another container has this user or group is judged in the injected pod.
        proxy_uid=Input(f.USER, check="proxy-uid"),
        proxy_gid=Input(f.Form("a group ID, or -1", r"[1-9][0-9]{0,9}|-1"),
                        check="proxy-uid"),
        proxy_log_level=Input(f.LOG_LEVEL),
        proxy_log_format=Input(f.one_of("plain", "json")),
        proxy_log_http_headers=Input(f.one_of("off", "insecure", "")),
        access_log=Input(f.one_of("apache", "json", "")),
        enable_external_profiles=Input(f.BOOLEAN),
        enable_gateway=Input(f.FALSE, "admin"),
        default_inbound_policy=Input(f.one_of(*POLICIES)),
        proxy_outbound_connect_timeout=Input(f.DURATION),
        proxy_inbound_connect_timeout=Input(f.DURATION),
        proxy_outbound_discovery_cache_unused_timeout=Input(f.DURATION),
        proxy_inbound_discovery_cache_unused_timeout=Input(f.DURATION),
        proxy_disable_outbound_protocol_detect_timeout=Input(f.BOOLEAN),
        proxy_disable_inbound_protocol_detect_timeout=Input(f.BOOLEAN),
        proxy_metrics_hostname_labels=Input(f.BOOLEAN),
        proxy_await=Input(f.SWITCH),
        proxy_admin_shutdown=Input(f.SWITCH),
        shutdown_grace_period=Input(f.DURATION),
        close_wait_timeout=Input(f.DURATION),
        proxy_additional_env=Input(
            f.structured("a JSON list of harmless variables", _additional, longest=_LONGEST_ENV),
            check="proxy-env-overridden",
            fix="author: remove it, or set a JSON list of the variables that mendix-mesh explain "
            "inputs lists",
        ),
        # For releases before 2.12. Later releases ignore them.
        disable_identity=Input(f.FALSE, "admin", "mtls-disabled"),
        disable_tap=Input(f.BOOLEAN),
        trace_collector=Input(f.ADMIN_ONLY, "admin"),
        trace_collector_service_account=Input(f.ADMIN_ONLY, "admin"),
    ),
}  # fmt: skip

#: Attributes of traces. They are pasted into YAML without quotes if tracing is enabled.
PREFIXES = {"resource.opentelemetry.io/": Input(f.WORDS)}

_OWNERS = ("deployment", "replicaset", "replicationcontroller", "job", "cronjob", "daemonset",
           "statefulset")  # fmt: skip
LABELS: dict[str, Input] = {
    # As labels these have no effect, or they make the API server skip the injector. Other checks
    # report both.
    "linkerd.io/inject": Input(f.TEXT),
    "linkerd.io/control-plane-component": Input(f.TEXT),
    "linkerd.io/cni-resource": Input(f.TEXT),
    # The injector overwrites these, whatever the author wrote.
    "linkerd.io/control-plane-ns": Input(f.NAME),
    "linkerd.io/workload-ns": Input(f.NAME),
    **{f"linkerd.io/proxy-{kind}": Input(f.NAME) for kind in _OWNERS},
}

#: The annotations that Linkerd reads.
READS = Domains(CONFIG, _ALPHA, _BETA, "linkerd.io/", "resource.opentelemetry.io/")
#: The labels that Linkerd reads. It reads no configuration from labels.
READS_LABELS = Domains("linkerd.io/")
