"""The proxy, its environment and volumes as Istio's injection templates write them.

The source is istio at 1.31, istio-discovery/files: injection-template.yaml and, for gateways,
gateway-injection-template.yaml, with the chart's default values.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

#: For each probe, the end of its path at the agent.
PROBES = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
#: Volumes for which the template has only `emptyDir:` without a value. A merge ignores it.
WITHOUT_SOURCE = frozenset({"workload-socket", "credential-socket", "workload-certs"})

_MOUNTS = {
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "credential-socket": "/var/run/secrets/credential-uds",
    "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-ca-crl": "/var/run/secrets/istio/crl",
    "istio-data": "/var/lib/istio/data",
    "istio-envoy": "/etc/istio/proxy",
    "istio-token": "/var/run/secrets/tokens",
    "istio-podinfo": "/etc/istio/pod",
}
_CRL = "istio-ca-crl"


def resources() -> Json:
    """Return the proxy's default resources."""
    return {
        "limits": {"cpu": "2", "memory": "1Gi"},
        "requests": {"cpu": "100m", "memory": "128Mi"},
    }


def init_context(*, cni: bool, uid: int, gid: int) -> Json:
    """Return the securityContext of istio-init or, with the CNI plugin, of istio-validation."""
    rights: Json = {"drop": ["ALL"]} if cni else {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": rights,
        "readOnlyRootFilesystem": cni,
        "runAsGroup": gid if cni else 0,
        "runAsNonRoot": cni,
        "runAsUser": uid if cni else 0,
    }


def proxy_context(added: Sequence[str], uid: int, gid: int) -> Json:
    """Return the securityContext of the proxy. It runs as root if it needs capabilities."""
    rights: Json = {"add": list(added), "drop": ["ALL"]} if added else {"drop": ["ALL"]}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": rights,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": not added,
        "runAsUser": 0 if added else uid,
        "runAsGroup": 1337 if added else gid,
    }


def proxy(
    *,
    image: str,
    gateway: bool,
    native: bool,
    holds: bool,
    env: list[Json],
    log_as_json: bool,
    status_port: str,
    resources: Json | None,
    context: Json,
    mounts: Sequence[Json],
) -> Json:
    """Return the proxy's container. A gateway's has no startup probe and no limits."""
    args = ["proxy", "router" if gateway else "sidecar",
            "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning",
            "--proxyComponentLogLevel=misc:error", "--log_output_level=default:info",
            *["--log_as_json"] * log_as_json]  # fmt: skip
    ready = _probe(periodSeconds=15, failureThreshold=4)
    made: Json = {
        "name": "istio-proxy",
        "image": image,
        "args": args,
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "env": env,
        **({"readinessProbe": ready} if gateway or status_port != "0" else {}),
        "securityContext": context,
        "volumeMounts": [
            *(
                {"name": name, "mountPath": path}
                for name, path in _MOUNTS.items()
                if not (gateway and name == _CRL)
            ),
            *mounts,
        ],
    }
    if resources is not None:
        made["resources"] = resources
    if status_port != "0" and not gateway:
        made["startupProbe"] = _probe(periodSeconds=1, failureThreshold=600)
    if native:
        made["restartPolicy"] = "Always"
        drain = ["pilot-agent", "request", f"--debug-port={status_port}", "POST", "drain"]
        made["lifecycle"] = {"preStop": {"exec": {"command": drain}}}
    elif holds and not gateway:
        made["lifecycle"] = {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    return made


def environment(
    *,
    ca_address: str,
    proxy_config: str,
    ports: Sequence[Json],
    apps: Sequence[str],
    mode: str,
    workload: str,
    owner: str,
    bootstrap: str,
    metadata: Mapping[str, str],
) -> list[Json]:
    """Return the proxy's variables. The mesh's and the pod's own metadata come last."""
    declared = [{"protocol": "TCP", **port} for port in ports]
    entries = [
        _value("PILOT_CERT_PROVIDER", "istiod"),
        _value("CA_ADDR", ca_address),
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("INSTANCE_IP", "status.podIP"),
        _field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _field("HOST_IP", "status.hostIP"),
        _resource("ISTIO_CPU_LIMIT", "limits.cpu"),
        _value("PROXY_CONFIG", proxy_config),
        _value("ISTIO_META_POD_PORTS", json.dumps(declared)),
        _value("ISTIO_META_APP_CONTAINERS", ",".join(apps)),
        _resource("GOMEMLIMIT", "limits.memory"),
        _resource("GOMAXPROCS", "limits.cpu"),
        _value("ISTIO_META_CLUSTER_ID", "Kubernetes"),
        _field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        _value("ISTIO_META_INTERCEPTION_MODE", mode),
    ]
    if workload:
        entries.append(_value("ISTIO_META_WORKLOAD_NAME", workload))
        entries.append(_value("ISTIO_META_OWNER", owner))
    if bootstrap:
        entries.append(_value("ISTIO_BOOTSTRAP_OVERRIDE", bootstrap))
    entries += [
        _value("ISTIO_META_MESH_ID", "cluster.local"),
        _value("TRUST_DOMAIN", "cluster.local"),
    ]
    return entries + [_value(name, value) for name, value in metadata.items()]


def volumes(*, gateway: bool) -> list[Json]:
    """Return the proxy's volumes."""
    token = {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}
    made = [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "credential-socket", "emptyDir": {}},
        {"name": "workload-certs", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {
            "name": "istio-podinfo",
            "downwardAPI": {
                "items": [
                    {"path": what, "fieldRef": {"fieldPath": f"metadata.{what}"}}
                    for what in ("labels", "annotations")
                ]
            },
        },
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
        {"name": _CRL, "configMap": {"name": "istio-ca-crl", "optional": True}},
    ]
    return [volume for volume in made if not (gateway and volume["name"] == _CRL)]


def _probe(**more: int) -> Json:
    return {"httpGet": {"path": "/healthz/ready", "port": 15021}, "timeoutSeconds": 3, **more}


def _value(name: str, value: str) -> Json:
    return {"name": name, "value": value}


def _field(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resource(name: str, what: str) -> Json:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": what, "divisor": "1"}}}
