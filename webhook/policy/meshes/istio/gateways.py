"""Istio's gateways and waypoints: pods that consist of a proxy, which no injector changes.

Their author writes the whole pod. So it must contain only what istiod creates
(files/kube-gateway.yaml, waypoint.yaml), or the Helm chart of a gateway.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from webhook.policy import sidecars
from webhook.policy.inputs import proxyconfig
from webhook.policy.inputs.istio import PROXY, VOLUMES
from webhook.policy.meshes.istio import injected
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod import containers
from webhook.policy.pod.containers import capability_names
from webhook.policy.pod.images import repository
from webhook.policy.pod.objects import NULL
from webhook.policy.pod.workload import Placed, Pod
from webhook.policy.settings import Istio

MANAGED = "gateway.istio.io/managed"
TEMPLATES = "inject.istio.io/templates"
#: An image that the injector replaces.
AUTO = "auto"
_ROLES = (("proxy", "router"), ("proxy", "waypoint"))
#: Allowed flags of the proxy. Others set a bootstrap or a configuration (pilot-agent/app/cmd.go).
_FLAGS = frozenset({
    "--domain", "--proxyLogLevel", "--proxyComponentLogLevel", "--log_output_level", "--stsPort",
    "--outlierLogPath", "--concurrency", "--serviceCluster", "--log_as_json",
})  # fmt: skip
#: Variables that change what the agent runs, trusts or reports about itself.
_GUARDED_ENV = (
    "DISABLE_ENVOY", "ISTIO_BOOTSTRAP", "ISTIO_METAJSON_", "ISTIO_META_TLS", "OUTPUT_CERTS",
    "PROV_CERT", "FILE_MOUNTED_CERTS", "ENVOY_", "CREDENTIAL_", "TOKEN_",
    "XDS_AUTH_PLAINTEXT", "ISTIOD_SAN", *containers.LOADER_ENV,
)  # fmt: skip
#: Keys of its configuration that set another program or bootstrap, or plaintext to istiod.
_GUARDED_KEYS = frozenset({
    "binaryPath", "configPath", "customConfigFile", "proxyBootstrapTemplatePath",
    "controlPlaneAuthPolicy",
})  # fmt: skip
#: Commands, with their arguments joined by line breaks, that wait for the end of connections, or
#: ask the proxy to drain. The mesh's admin gives such hooks to all proxies
#: (values.global.proxy.lifecycle).
_WAITS = re.compile(
    r"(?:(?:(?:/usr)?/bin/)?(?:ba)?sh\n-c\n)?(?:(?:/usr)?/bin/)?"
    r"(?:(?:while|until|do|done|sleep|infinity|ss|netstat|e?grep|wc|xargs|true|tcp|envoy)\b"
    r"|(?:/usr/local/bin/)?pilot-agent\b(?:[ \n](?:wait|request[ \n](?:GET|POST)[ \n][a-z_/?=&]+))?"
    # Without grep -r, whose output the shell could run.
    r"|[0-9]+(?:\.[0-9]+)?s?\b|-[a-qs-z]+\b|&&|[ \n$()|;!\[\]\"'])+"
)
_LONGEST_HOOK = 500
#: A waypoint has two volumes that nothing mounts (files/waypoint.yaml).
_VOLUMES = VOLUMES | {"go-proxy-envoy", "go-proxy-data"}
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 - start of the names of volumes
#: The mount paths of the proxy's volumes.
_FOLDERS = {
    "istio-envoy": "/etc/istio/proxy",
    "istio-podinfo": "/etc/istio/pod",
    "istio-data": "/var/lib/istio/data",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-ca-crl": "/var/run/secrets/istio/crl",
    "istio-token": "/var/run/secrets/tokens",
    "credential-socket": "/var/run/secrets/credential-uds",
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
    "gke-workload-certificate": "/var/run/secrets/workload-spiffe-credentials",
}


def candidate(pod: Pod) -> Placed | None:
    """Return the only container of a pod that may be a gateway; None for any other pod."""
    if len(pod.containers) != 1 or pod.spec.host_network:
        return None
    only = pod.containers[0]
    if only.name != PROXY or only.kind != "containers":
        return None
    if only.container.image == AUTO:
        wanted = pod.annotations.get(TEMPLATES, "").strip()
        return only if wanted == "gateway" and not pod.final else None
    return only if tuple((only.container.args or ())[:2]) in _ROLES else None


def unexpected(
    pod: Pod, only: Placed, own: Istio, is_ours: Callable[[str], bool]
) -> Iterator[Occurrence]:
    """Yield what a gateway has in addition to what istiod or the chart creates."""
    container = only.container
    if container.image != AUTO:
        if repository(container.image or "") not in own.proxy_images:
            yield Occurrence(
                only.field("image"), (container.image or "none",), "is not Istio's proxy"
            )
        _, unexpected = containers.flags((container.args or [])[2:], _FLAGS, injected.SWITCHES)
        if unexpected:
            yield Occurrence(
                only.field("args"), unexpected, "has arguments that can change what the proxy runs"
            )
    yield from injected.own_programs(only)
    if container.working_dir not in (None, "", "/"):
        yield Occurrence(only.field("workingDir"), reason="sets another working directory")
    hooks = container.lifecycle or {}
    if "postStart" in hooks:
        yield Occurrence(only.field("lifecycle.postStart"), reason="runs its own command")
    if not _only_waits(hooks.get("preStop", NULL)):
        yield Occurrence(only.field("lifecycle.preStop"), reason="runs its own command")
    context = container.security_context
    listed = context.capabilities if context else None
    if listed and (added := capability_names(listed.add) - {"NET_BIND_SERVICE"}):
        yield Occurrence(only.field("securityContext.capabilities.add"), tuple(sorted(added))[:20],
                         "has more rights than Istio's proxy needs")  # fmt: skip
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if (msgspec.json.decode(probe) or {}).get("exec"):
            yield Occurrence(only.field(f"{name}.exec"), reason="runs its own command")
    yield from sidecars.foreign_changes(only, injected.REFERRED)
    yield from injected.idle_proxy(only)
    yield from _agent_settings(only, is_ours)
    yield from _files(pod, only)
    yield from _whole(pod, own)


class _Command(msgspec.Struct):
    command: list[str] | None = None


class _Hook(msgspec.Struct, rename="camel"):
    exec: _Command | None = None
    http_get: Any = None
    tcp_socket: Any = None


def _only_waits(handler: msgspec.Raw) -> bool:
    """Return whether a `preStop` hook only waits, or asks the proxy to drain."""
    try:
        hook = msgspec.json.decode(handler, type=_Hook | None) or _Hook()
    except msgspec.ValidationError:
        return False  # only a manifest has such a type, never a request
    if hook.http_get or hook.tcp_socket:
        return False
    command = "\n".join(hook.exec.command or ["true"] if hook.exec else ["true"])
    return len(command) <= _LONGEST_HOOK and _WAITS.fullmatch(command) is not None


def _agent_settings(only: Placed, is_ours: Callable[[str], bool]) -> Iterator[Occurrence]:
    env = only.env
    config = proxyconfig.parse(env.get("PROXY_CONFIG")) or {}
    # The agent treats these as variables, too.
    metadata = config.get("proxyMetadata") or {}
    names = {
        *only.variables.starting(_GUARDED_ENV),
        *(name for name in map(str, metadata) if name.startswith(_GUARDED_ENV)),
    }
    if names:
        yield Occurrence(
            only.field("env"), tuple(sorted(names)), "changes what the agent runs or trusts"
        )
    if keys := sorted(_GUARDED_KEYS & config.keys()):
        yield Occurrence(
            only.field("env[PROXY_CONFIG]"), tuple(keys), "changes what the proxy runs"
        )
    for name, address in (
        ("PROXY_CONFIG", config.get("discoveryAddress")), ("CA_ADDR", env.get("CA_ADDR")),
    ):  # fmt: skip
        if env.get(name) == "":
            yield Occurrence(only.field(f"env[{name}]"), reason="is expanded after admission")
        elif address is not None and not is_ours(str(address)):
            yield Occurrence(
                only.field(f"env[{name}]"), (str(address),), "names another control plane"
            )


def _files(pod: Pod, only: Placed) -> Iterator[Occurrence]:
    yield from injected.unexpected_volumes(pod)
    for name in pod.volumes:
        if name not in _VOLUMES and not name.startswith(_TOKEN_VOLUME):
            yield Occurrence(
                f"spec.volumes[{name}]", (name,), "is not a volume that Istio gives a gateway"
            )
    for mount in only.container.volume_mounts or ():
        expected = _FOLDERS.get(mount.name)
        token = mount.name.startswith(_TOKEN_VOLUME)
        path = containers.mount_path(mount.mount_path)
        if not token and path != expected:
            yield Occurrence(only.field(f"volumeMounts[{mount.name}]"), (mount.mount_path,),
                             "is not where Istio mounts that volume")  # fmt: skip


def _whole(pod: Pod, own: Istio) -> Iterator[Occurrence]:
    yield from sidecars.moved_names(pod, own.control_plane_hosts, own.control_plane_namespace)
    if pod.spec.host_aliases:
        yield Occurrence("spec.hostAliases", reason="is not a setting that Istio gives a gateway")
    if pod.spec.hostname_override:
        yield Occurrence(
            "spec.hostnameOverride", reason="is not a setting that Istio gives a gateway"
        )
    if bytes(pod.spec.dns_config) not in (b"null", b"{}"):
        yield Occurrence("spec.dnsConfig", reason="is not a setting that Istio gives a gateway")
    if pod.spec.host_pid:
        yield Occurrence("spec.hostPID", reason="shares the node's processes")
