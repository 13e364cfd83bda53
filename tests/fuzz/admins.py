"""Meshes with configurations that admins may choose. No ordinary pod in them is denied."""

import copy
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import edits
from tests.fuzz.edits import Draw, Json

#: Values of Linkerd's chart, each with some that an admin may choose.
_LINKERD: dict[str, tuple[Any, ...]] = {
    "await_proxy": (True, False), "external_profiles": (True, False), "debug": (True, False),
    "log_level": ("info", "warn,linkerd=debug"), "log_format": ("json", "plain"),
    "access_log": ("apache", ""), "hostname_labels": (True, False), "init_as_root": (True, False),
    "shutdown_endpoint": (True, False), "shutdown_grace": ("", "30s"), "wait_before_exit": (0, 10),
    "inbound_connect_timeout": ("100ms", "2s"), "workers_min": (1, 2), "workers_ratio": (0.0, 0.5),
    "no_inbound_detect_timeout": (True, False), "no_outbound_detect_timeout": (True, False),
    "cpu_request": ("", "100m"), "memory_limit": ("", "1Gi"), "opaque_ports": ("25", "25,3306"),
    "cluster_networks": ("10.0.0.0/8", "10.0.0.0/8,192.168.0.0/16"),
    "additional_env": ((), ({"name": "LINKERD2_PROXY_X", "value": "y"},),
                       ({"name": "SSL_CERT_FILE", "value": "/x"},)),
}  # fmt: skip
_ISTIO: dict[str, tuple[Any, ...]] = {
    "revision": ("default", "canary", "1-31-0"), "hold": (True, False), "nftables": (True, False),
    "log_as_json": (True, False), "tag": ("1.31.0", "1.28.1-distroless"),
    "metadata": ({}, {"ISTIO_META_DNS_CAPTURE": "true"}, {"BOOTSTRAP_XDS_AGENT": "true"},
                 {"CA_CRT": "x", "ISTIO_META_X": "y"}),
}  # fmt: skip
_VARIABLES = ("TEAM", "OTEL_RESOURCE_ATTRIBUTES", "HTTP_PROXY", "SSL_CERT_DIR", "ENVOY_X",
              "ISTIO_META_LAME_DUCK", "CA_ROOT",
              "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR")  # fmt: skip


@st.composite
def pods(draw: Draw, by: str) -> Json:
    """Draw an ordinary pod of a mesh that an admin has configured."""
    config = edits.configured(draw, by)
    for name in draw(st.lists(st.sampled_from(sorted(_knobs(by))), max_size=4)) if config else ():
        config = replace(config, **{name: draw(st.sampled_from(_knobs(by)[name]))})
    made = edits.created(by, edits.APPS[by](), config)
    assert made is not None, config
    _template(draw, made)
    return made


def _knobs(by: str) -> dict[str, tuple[Any, ...]]:
    return {"linkerd": _LINKERD, "istio": _ISTIO}.get(by, {})


def _template(draw: Draw, pod: Json) -> None:
    """Change the proxy as an admin's own template, or a value for all proxies, may change it."""
    for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
        if not container["name"].endswith("-proxy"):
            continue
        if draw(st.booleans()):
            command = draw(st.sampled_from((["sleep", "5"], ["sh", "-c", "sleep 5"], ["drain"])))
            container.setdefault("lifecycle", {})["preStop"] = {"exec": {"command": command}}
        if draw(st.booleans()):
            entry = {"name": draw(st.sampled_from(_VARIABLES)), "value": "x"}
            container["env"] = [*copy.deepcopy(container["env"]), entry]
        if draw(st.booleans()):
            pod["spec"].setdefault("volumes", []).append(
                {"name": "ca", "configMap": {"name": "ca"}}
            )
            path = draw(st.sampled_from(("/etc/ssl/certs", "/etc/pki", "/ca")))
            mounts = container.setdefault("volumeMounts", [])
            container["volumeMounts"] = [*mounts, {"name": "ca", "mountPath": path}]
