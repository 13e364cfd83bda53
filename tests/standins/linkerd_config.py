"""The settings of the stand-in injector, and how annotations on pods and namespaces change them.

The names, defaults and rules follow linkerd2 at edge-26.8.3: pkg/k8s/labels.go for the annotations,
pkg/inject/inject.go for their effect. As there, an invalid value is ignored: after a typo, the
default stays without a message.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

INJECT = "linkerd.io/inject"
CONFIG = "config.linkerd.io/"
ALPHA = "config.alpha.linkerd.io/"
BETA = "config.beta.linkerd.io/"
TRACE = "resource.opentelemetry.io/"

INBOUND_POLICIES = (
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
)


class InjectionError(Exception):
    """The injector can't make a patch from these settings. The real one then denies the object."""


@dataclass(frozen=True)
class InjectorConfig:
    """The control plane's Helm values. See `overridden` for the ones that annotations can change.

    Ports are numbers or ranges, comma-separated. An empty string or a gid of -1 means "not set".
    """

    control_plane_namespace: str = "linkerd"
    cluster_domain: str = "cluster.local"
    trust_anchors: str = "-----BEGIN CERTIFICATE-----\nc3RhbmQtaW4=\n-----END CERTIFICATE-----\n"
    token_projection: bool = True
    version: str = "edge-26.8.3"
    image: str = "cr.l5d.io/linkerd/proxy:edge-26.8.3"
    debug_image: str = "cr.l5d.io/linkerd/debug:edge-26.8.3"
    image_pull_policy: str = "IfNotPresent"
    debug_image_pull_policy: str = "IfNotPresent"
    native: bool = True
    cni: bool = False
    await_proxy: bool = True
    ingress: bool = False
    gateway: bool = False
    debug: bool = False
    external_profiles: bool = False
    proxy_uid: int = 2102
    proxy_gid: int = -1
    admin_port: int = 4191
    control_port: int = 4190
    inbound_port: int = 4143
    outbound_port: int = 4140
    skip_inbound: str = "4567,4568"
    """The admin and control ports are not included. The init container always adds them."""
    skip_outbound: str = "4567,4568"
    skip_subnets: str = ""
    opaque_ports: str = "25,587,3306,4444,5432,6379,9300,11211"
    require_identity_ports: str = ""
    inbound_policy: str = "all-unauthenticated"
    cluster_networks: str = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
    log_level: str = "warn,linkerd=info,hickory=error"
    log_format: str = "plain"
    log_http_headers: str = "off"
    access_log: str = ""
    hostname_labels: bool = False
    shutdown_endpoint: bool = False
    shutdown_grace: str = ""
    wait_before_exit: int = 0
    close_wait: int = 0
    init_as_root: bool = False
    inbound_connect_timeout: str = "100ms"
    outbound_connect_timeout: str = "1000ms"
    inbound_discovery_idle: str = "90s"
    outbound_discovery_idle: str = "5s"
    no_inbound_detect_timeout: bool = False
    no_outbound_detect_timeout: bool = False
    workers_min: int = 1
    workers_max: int = 0
    workers_ratio: float = 0.0
    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    storage_request: str = ""
    storage_limit: str = ""
    additional_env: tuple[Json, ...] = ()
    tracing: bool = False
    trace_attributes: tuple[tuple[str, str], ...] = ()
    proxy_version: str = ""
    """The tag of the proxy's image. `overridden` sets it."""


def overridden(
    config: InjectorConfig, annotations: Mapping[str, str], named_ports: Mapping[str, int]
) -> InjectorConfig:
    """Return the settings for one pod.

    `annotations` are the pod's, including inherited ones. `named_ports` are its containers' ports
    by name.
    """
    changes: Json = {}
    for name, (field, parse) in _OVERRIDES.items():
        if (value := annotations.get(name)) is not None:
            with suppress(ValueError):
                changes[field] = parse(value)
    for name in _NATIVE:
        if (value := annotations.get(name)) is not None:
            with suppress(ValueError):
                changes["native"] = _boolean(value)
            break  # only the first one present counts, even if its value is invalid
    for field, short in (("image", "proxy-image"), ("debug_image", "debug-image")):
        name, tag = _split(getattr(config, field))
        name = annotations.get(CONFIG + short, name)
        tag = annotations.get(CONFIG + _TAGS[short], tag) or config.version
        changes[field] = f"{name}:{tag}"
        if field == "image":
            changes["proxy_version"] = tag
    changes["trace_attributes"] = sorted(
        (name.removeprefix(TRACE), value)
        for name, value in annotations.items()
        if name.startswith(TRACE)
    )
    if (opaque := annotations.get(CONFIG + "opaque-ports")) is not None:
        changes["opaque_ports"] = ",".join(_ports(opaque, named_ports))
    if "cpu_request" in changes:
        changes["workers_min"] = _cores(changes["cpu_request"])
    if "cpu_limit" in changes:
        changes["workers_max"] = _cores(changes["cpu_limit"])
    return replace(config, **changes)


def merged_env(config: InjectorConfig, *layers: Mapping[str, str]) -> tuple[Json, ...]:
    """Return the additional environment: the settings', overridden by each layer's annotation.

    Layers are annotations: first the namespace's, then the pod's. If a layer is not a JSON list of
    named variables, the whole layer is ignored.
    """
    merged = {entry["name"]: entry for entry in config.additional_env}
    for annotations in layers:
        with suppress(ValueError, TypeError, KeyError):
            entries = json.loads(annotations.get(CONFIG + "proxy-additional-env", ""))
            merged |= {entry["name"]: entry for entry in entries}
    return tuple(merged.values())


def _split(image: str) -> tuple[str, str]:
    """Split an image into name and tag. A colon before the last slash is a registry's port."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "")


def _boolean(value: str) -> bool:
    """Parse a boolean like Go's strconv.ParseBool."""
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(value)


def _integer(value: str) -> int:
    """Parse an integer like Go's strconv.ParseInt. Python's int accepts more, like blanks."""
    if not re.fullmatch(r"[+-]?\d+", value):
        raise ValueError(value)
    return int(value)


def _natural(value: str) -> int:
    if not value.isdecimal():
        raise ValueError(value)
    return int(value)


def _switch(value: str) -> bool:
    return {"enabled": True, "disabled": False}[_one_of("enabled", "disabled")(value)]


def _one_of(*valid: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in valid:
            raise ValueError(value)
        return value

    return parse


def _seconds(value: str) -> Decimal:
    """Parse a duration like Go's time.ParseDuration, in seconds."""
    units = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", value):
        raise ValueError(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
    return sum((Decimal(number) * units[unit] for number, unit in parts), Decimal(0))


def _milliseconds(value: str) -> str:
    return f"{int(_seconds(value) * 1000)}ms"


def _whole_seconds(value: str) -> str:
    return f"{int(_seconds(value))}s"


def _ratio(value: str) -> float:
    if not 0 < (ratio := float(value)) < 1:
        raise ValueError(value)
    return ratio


_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")


def _quantity(value: str) -> str:
    """Return the quantity unchanged if Kubernetes can parse it."""
    if not _QUANTITY.fullmatch(value):
        raise ValueError(value)
    return value


def _cores(cpu: str) -> int:
    """Round a CPU quantity up to whole cores. Only the suffixes for CPU are supported."""
    milli = cpu.endswith("m")
    return math.ceil(Decimal(cpu.rstrip("m")) / (1000 if milli else 1))


def _ports(value: str, named: Mapping[str, int]) -> list[str]:
    """Return numbers and ranges. Names become numbers, and anything else is dropped."""
    items = [item.strip() for item in value.removesuffix(",").split(",")]
    numbers = [str(named.get(item, item)) for item in items]
    return [number for number in numbers if re.fullmatch(r"\d+(-\d+)?", number)]


_TAGS = {"proxy-image": "proxy-version", "debug-image": "debug-image-version"}

# In order of precedence: pkg/inject/inject.go.
_NATIVE = tuple(prefix + "proxy-enable-native-sidecar" for prefix in (CONFIG, BETA, ALPHA))

_OVERRIDES: dict[str, tuple[str, Callable[[str], Any]]] = {
    CONFIG + "access-log": ("access_log", str),
    CONFIG + "admin-port": ("admin_port", _integer),
    CONFIG + "close-wait-timeout": ("close_wait", lambda value: int(_seconds(value))),
    CONFIG + "control-port": ("control_port", _integer),
    CONFIG + "debug-image-pull-policy": ("debug_image_pull_policy", str),
    CONFIG + "default-inbound-policy": ("inbound_policy", _one_of(*INBOUND_POLICIES)),
    CONFIG + "enable-debug-sidecar": ("debug", _boolean),
    CONFIG + "enable-external-profiles": ("external_profiles", _boolean),
    CONFIG + "enable-gateway": ("gateway", _boolean),
    CONFIG + "image-pull-policy": ("image_pull_policy", str),
    CONFIG + "inbound-port": ("inbound_port", _integer),
    CONFIG + "outbound-port": ("outbound_port", _integer),
    CONFIG + "proxy-admin-shutdown": ("shutdown_endpoint", _switch),
    CONFIG + "proxy-await": ("await_proxy", _switch),
    CONFIG + "proxy-cpu-limit": ("cpu_limit", _quantity),
    CONFIG + "proxy-cpu-ratio-limit": ("workers_ratio", _ratio),
    CONFIG + "proxy-cpu-request": ("cpu_request", _quantity),
    CONFIG + "proxy-disable-inbound-protocol-detect-timeout": (
        "no_inbound_detect_timeout",
        _boolean,
    ),
    CONFIG + "proxy-disable-outbound-protocol-detect-timeout": (
        "no_outbound_detect_timeout",
        _boolean,
    ),
    CONFIG + "proxy-ephemeral-storage-limit": ("storage_limit", _quantity),
    CONFIG + "proxy-ephemeral-storage-request": ("storage_request", _quantity),
    CONFIG + "proxy-gid": ("proxy_gid", _integer),
    CONFIG + "proxy-inbound-connect-timeout": ("inbound_connect_timeout", _milliseconds),
    CONFIG + "proxy-inbound-discovery-cache-unused-timeout": (
        "inbound_discovery_idle",
        _whole_seconds,
    ),
    CONFIG + "proxy-log-format": ("log_format", str),
    CONFIG + "proxy-log-http-headers": ("log_http_headers", str),
    CONFIG + "proxy-log-level": ("log_level", str),
    CONFIG + "proxy-memory-limit": ("memory_limit", _quantity),
    CONFIG + "proxy-memory-request": ("memory_request", _quantity),
    CONFIG + "proxy-metrics-hostname-labels": ("hostname_labels", _boolean),
    CONFIG + "proxy-outbound-connect-timeout": ("outbound_connect_timeout", _milliseconds),
    CONFIG + "proxy-outbound-discovery-cache-unused-timeout": (
        "outbound_discovery_idle",
        _whole_seconds,
    ),
    CONFIG + "proxy-require-identity-inbound-ports": ("require_identity_ports", str),
    CONFIG + "proxy-uid": ("proxy_uid", _integer),
    CONFIG + "shutdown-grace-period": ("shutdown_grace", _milliseconds),
    CONFIG + "skip-inbound-ports": ("skip_inbound", str),
    CONFIG + "skip-outbound-ports": ("skip_outbound", str),
    CONFIG + "skip-subnets": ("skip_subnets", str),
    ALPHA + "proxy-wait-before-exit-seconds": ("wait_before_exit", _natural),
    INJECT: ("ingress", lambda value: value == "ingress"),
}

_POD_ONLY = {
    CONFIG + short
    for short in (
        "close-wait-timeout",
        "debug-image-pull-policy",
        "enable-gateway",
        "proxy-cpu-ratio-limit",
    )
}

INHERITED = frozenset(
    {
        *(_OVERRIDES.keys() - _POD_ONLY),
        CONFIG + "opaque-ports",
        # inherited, but without effect, because the injector computes them
        CONFIG + "pod-inbound-ports",
        CONFIG + "proxy-additional-env",
        CONFIG + "proxy-enable-native-sidecar",
        CONFIG + "proxy-image",
        CONFIG + "proxy-version",
        ALPHA + "proxy-enable-native-sidecar",
    }
)
"""Annotations that a pod inherits from its namespace if it does not have them."""
