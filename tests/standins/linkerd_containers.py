"""The containers and volumes that the stand-in injector adds, in the shape that Linkerd gives them.

Names, fields, environment variables and their order are what a pod injected by linkerd2 at
edge-26.8.3 has; everything here is a pure function of the pod's settings.
"""

from typing import Any

from tests.standins.linkerd_config import InjectionError, InjectorConfig

Json = dict[str, Any]

PROXY = "linkerd-proxy"
INIT = "linkerd-init"
NETWORK_VALIDATOR = "linkerd-network-validator"
DEBUG = "linkerd-debug"

END_ENTITY = "linkerd-identity-end-entity"
TOKEN = "linkerd-identity-token"
XTABLES_LOCK = "linkerd-proxy-init-xtables-lock"

_BIN = "/usr/lib/linkerd/"
_TOKENS = "/var/run/secrets/tokens"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_INIT_UID = 65534


def proxy(config: InjectorConfig, app: Json, inbound_ports: str) -> Json:
    """Return the proxy's container; `app` is the pod's first container, `inbound_ports` its ports.

    Raises InjectionError for a value on which Linkerd's template fails.
    """
    admin = config.admin_port
    container: Json = {
        "env": _environment(config, inbound_ports),
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "livenessProbe": {"httpGet": _get("/live", admin), "initialDelaySeconds": 10},
        "name": PROXY,
        "ports": [
            {"containerPort": config.inbound_port, "name": "linkerd-proxy"},
            {"containerPort": admin, "name": "linkerd-admin"},
        ],
        "readinessProbe": {"httpGet": _get("/ready", admin), "initialDelaySeconds": 2},
        "resources": _resources(config),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            **_capabilities(app),
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": config.proxy_uid,
            **({"runAsGroup": config.proxy_gid} if config.proxy_gid >= 0 else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"mountPath": "/var/run/linkerd/identity/end-entity", "name": END_ENTITY},
            *([{"mountPath": _TOKENS, "name": TOKEN}] if config.token_projection else []),
            *account_mounts(app),
        ],
    }
    if config.native:
        container["restartPolicy"] = "Always"
        if config.await_proxy:
            container["startupProbe"] = {
                "httpGet": _get("/ready", admin),
                "periodSeconds": 1,
                "failureThreshold": 120,
            }
    elif lifecycle := _lifecycle(config):
        container["lifecycle"] = lifecycle
    return container


def proxy_init(config: InjectorConfig, app: Json) -> Json:
    """Return the init container that redirects the pod's traffic to the proxy.

    Raises InjectionError where a close-wait timeout is asked for and init may not run as root.
    """
    if config.close_wait and not config.init_as_root:
        message = "a close-wait timeout needs an init container that runs as root"
        raise InjectionError(message)
    capabilities = _capabilities(app).get("capabilities", {})
    needed = ("NET_ADMIN", "NET_RAW")
    dropped = [name for name in capabilities.get("drop", ()) if name not in needed]
    root = config.init_as_root
    return {
        "args": _init_arguments(config),
        "command": [_BIN + "linkerd2-proxy-init"],
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "name": INIT,
        "resources": _resources(config),
        "securityContext": {
            "allowPrivilegeEscalation": root,
            "capabilities": {
                "add": [*needed, *capabilities.get("add", ())],
                **({"drop": dropped} if dropped else {}),
            },
            "privileged": bool(config.close_wait),
            "readOnlyRootFilesystem": True,
            "runAsGroup": 0 if root else _INIT_UID,
            "runAsNonRoot": not root,
            "runAsUser": 0 if root else _INIT_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"mountPath": "/run", "name": XTABLES_LOCK}, *account_mounts(app)],
    }


def network_validator(config: InjectorConfig) -> Json:
    """Return the init container that only checks the redirection which Linkerd's CNI has set."""
    arguments = {
        "--log-format": "plain",
        "--log-level": "debug",
        "--connect-addr": "1.1.1.1:20001",
        "--listen-addr": f"0.0.0.0:{config.outbound_port}",
        "--timeout": "10s",
    }
    return {
        "args": [word for pair in arguments.items() for word in pair],
        "command": [_BIN + "linkerd2-network-validator"],
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "name": NETWORK_VALIDATOR,
        "resources": _resources(config),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": _INIT_UID,
            "runAsNonRoot": True,
            "runAsUser": _INIT_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def debug(config: InjectorConfig) -> Json:
    """Return the debug sidecar, an ordinary container in every mode."""
    return {
        "image": config.debug_image,
        "imagePullPolicy": config.debug_image_pull_policy,
        "name": DEBUG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def volume(name: str) -> Json:
    """Return one of the injector's volumes by its name."""
    sources: dict[str, Json] = {
        XTABLES_LOCK: {"emptyDir": {}},
        END_ENTITY: {"emptyDir": {"medium": "Memory"}},
        TOKEN: {
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": "identity.l5d.io",
                            "expirationSeconds": 86400,
                            "path": TOKEN,
                        }
                    }
                ]
            }
        },
    }
    return {"name": name, **sources[name]}


def account_mounts(app: Json) -> list[Json]:
    """Return the first container's mount of its ServiceAccount token, which the proxy shares."""
    mounts = app.get("volumeMounts") or ()
    return [dict(mount) for mount in mounts if mount["mountPath"] == _ACCOUNT][:1]


def _get(path: str, port: int) -> Json:
    return {"path": path, "port": port}


def _capabilities(app: Json) -> Json:
    """Return the first container's capabilities, which the proxy takes over for Pod Security."""
    of_app = (app.get("securityContext") or {}).get("capabilities")
    if of_app is None:
        return {}
    return {"capabilities": {k: list(of_app[k]) for k in ("add", "drop") if of_app.get(k)}}


def _resources(config: InjectorConfig) -> Json:
    limits = {
        "cpu": config.cpu_limit,
        "memory": config.memory_limit,
        "ephemeral-storage": config.storage_limit,
    }
    requests = {
        "cpu": config.cpu_request,
        "memory": config.memory_request,
        "ephemeral-storage": config.storage_request,
    }
    stated = {
        what: {name: quantity for name, quantity in quantities.items() if quantity}
        for what, quantities in (("limits", limits), ("requests", requests))
    }
    return {what: quantities for what, quantities in stated.items() if quantities}


def _lifecycle(config: InjectorConfig) -> Json:
    """Return the hooks of a classic sidecar: the app starts when the proxy is ready."""
    hooks: Json = {}
    if config.await_proxy:
        command = [_BIN + "linkerd-await", "--timeout=2m", f"--port={config.admin_port}"]
        hooks["postStart"] = {"exec": {"command": command}}
    if config.wait_before_exit:
        hooks["preStop"] = {"exec": {"command": ["/bin/sleep", str(config.wait_before_exit)]}}
    return hooks


def _init_arguments(config: InjectorConfig) -> list[str]:
    skipped = ",".join(filter(None, (str(config.control_port), str(config.admin_port))))
    skip_inbound = f"{skipped},{config.skip_inbound}" if config.skip_inbound else skipped
    arguments = [
        *("--firewall-bin-path", "iptables-nft"),
        *("--firewall-save-bin-path", "iptables-nft-save"),
        "--ipv6=false",
        *("--incoming-proxy-port", str(config.inbound_port)),
        *("--outgoing-proxy-port", str(config.outbound_port)),
        *("--proxy-uid", str(config.proxy_uid)),
    ]
    if config.proxy_gid >= 0:
        arguments += ["--proxy-gid", str(config.proxy_gid)]
    arguments += ["--inbound-ports-to-ignore", skip_inbound]
    if config.skip_outbound:
        arguments += ["--outbound-ports-to-ignore", config.skip_outbound]
    if config.close_wait:
        arguments += ["--timeout-close-wait-secs", str(config.close_wait)]
    if config.skip_subnets:
        arguments += ["--subnets-to-ignore", config.skip_subnets]
    return arguments


def _environment(config: InjectorConfig, inbound_ports: str) -> list[Json]:
    """Return the proxy's variables; additional ones come last, where Kubernetes lets them win."""
    if config.log_http_headers not in ("", "off", "insecure"):
        message = f"HTTP headers are logged 'insecure' or 'off', not {config.log_http_headers!r}"
        raise InjectionError(message)
    namespace, domain = config.control_plane_namespace, config.cluster_domain
    headers = "" if config.log_http_headers == "insecure" else ",[{headers}]=off,[{request}]=off"
    service, identity = (
        f"{namespace}.svc.{domain}.",
        f"serviceaccount.identity.{namespace}.{domain}",
    )
    destination = f"linkerd-destination.{namespace}.{identity}"
    context = '{"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}\n'
    variables: dict[str, str | Json] = {
        "_pod_name": _field("metadata.name"),
        "_pod_ns": _field("metadata.namespace"),
        "_pod_uid": _field("metadata.uid"),
        "_pod_ip": _field("status.podIP"),
        "_pod_nodeName": _field("spec.nodeName"),
        "_pod_containerName": PROXY,
        "LINKERD2_PROXY_CORES": str(config.workers_min),
        "LINKERD2_PROXY_CORES_MIN": str(config.workers_min),
        "LINKERD2_PROXY_CORES_MAX": str(config.workers_max or ""),
        "LINKERD2_PROXY_CORES_MAX_RATIO": str(config.workers_ratio or ""),
        "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY": config.require_identity_ports,
        "LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED": _boolean(config.shutdown_endpoint),
        "LINKERD2_PROXY_LOG": config.log_level + headers,
        "LINKERD2_PROXY_LOG_FORMAT": config.log_format,
        "LINKERD2_PROXY_DESTINATION_SVC_ADDR": f"linkerd-dst-headless.{service}:8086",
        "LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS": config.cluster_networks,
        "LINKERD2_PROXY_POLICY_SVC_ADDR": f"linkerd-policy.{service}:8090",
        "LINKERD2_PROXY_POLICY_WORKLOAD": '{"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}\n',
        "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY": config.inbound_policy,
        "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS": config.cluster_networks,
        "LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT": "3s",
        "LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT": "5m",
        "LINKERD2_PROXY_CONTROL_STREAM_LIFETIME": "1h",
        "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT": config.inbound_connect_timeout,
        "LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT": config.outbound_connect_timeout,
        "LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT": config.outbound_discovery_idle,
        "LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT": config.inbound_discovery_idle,
        "LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT": "365d" * config.no_outbound_detect_timeout,
        "LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT": "365d" * config.no_inbound_detect_timeout,
        "LINKERD2_PROXY_CONTROL_LISTEN_ADDR": f"0.0.0.0:{config.control_port}",
        "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": f"0.0.0.0:{config.admin_port}",
        "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR": f"127.0.0.1:{config.outbound_port}",
        "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS": f"127.0.0.1:{config.outbound_port}",
        "LINKERD2_PROXY_INBOUND_LISTEN_ADDR": f"0.0.0.0:{config.inbound_port}",
        "LINKERD2_PROXY_INBOUND_IPS": _field("status.podIPs"),
        "LINKERD2_PROXY_INBOUND_PORTS": {"value": inbound_ports},  # stated even where empty
        "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES": f"svc.{domain}." * config.gateway,
        "LINKERD2_PROXY_INGRESS_MODE": "true" * config.ingress,
        "LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES": (
            "." if config.external_profiles else f"svc.{domain}."
        ),
        "LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE": "10000ms",
        "LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE": "10000ms",
        "LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT": "30s",
        "LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT": "30s",
        "LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS": _boolean(config.hostname_labels),
        "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s",
        "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
        "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s",
        "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
        "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION": config.opaque_ports,
        "LINKERD2_PROXY_DESTINATION_CONTEXT": context,
        "_pod_sa": _field("spec.serviceAccountName"),
        "_l5d_ns": namespace,
        "_l5d_trustdomain": domain,
        "LINKERD2_PROXY_IDENTITY_DIR": "/var/run/linkerd/identity/end-entity",
        "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": config.trust_anchors.strip() + "\n",
        "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": (
            f"{_TOKENS}/{TOKEN}" if config.token_projection else f"{_ACCOUNT}/token"
        ),
        "LINKERD2_PROXY_IDENTITY_SVC_ADDR": f"linkerd-identity-headless.{service}:8080",
        "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": f"$(_pod_sa).$(_pod_ns).{identity}",
        "LINKERD2_PROXY_IDENTITY_SVC_NAME": f"linkerd-identity.{namespace}.{identity}",
        "LINKERD2_PROXY_DESTINATION_SVC_NAME": destination,
        "LINKERD2_PROXY_POLICY_SVC_NAME": destination,
        "LINKERD2_PROXY_ACCESS_LOG": config.access_log,
        "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD": config.shutdown_grace,
    }
    stated = [
        {"name": name, **({"value": value} if isinstance(value, str) else value)}
        for name, value in variables.items()
        if value
    ]
    return stated + [dict(entry) for entry in config.additional_env]


def _field(path: str) -> Json:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def _boolean(value: bool) -> str:
    return "true" if value else "false"
