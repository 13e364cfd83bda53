"""Which parts of an injector's work are explained by an author's annotations and labels.

The injector's work on a pod is compared with its work on the same pod without the author's
annotations and labels, which shows the mesh's defaults.
"""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from typing import Any

from webhook.policy.inputs import istio, linkerd, proxyconfig

Json = dict[str, Any]

#: Containers that injectors add.
_OWN = frozenset({
    "linkerd-proxy", "linkerd-init", "linkerd-network-validator", "istio-proxy", "istio-init",
    "istio-validation",
})  # fmt: skip
#: What the keys of a mesh may change, by its place: see `parts`.
_MAY_CHANGE: Mapping[str, tuple[str, ...]] = {
    "linkerd": (
        *(f"linkerd-proxy.env.{name}" for name in sorted(linkerd.HARMLESS_ENV)),
        *(f"linkerd-proxy.env.LINKERD2_PROXY_{name}" for name in (
            "INBOUND_PORTS_REQUIRE_IDENTITY", "SHUTDOWN_ENDPOINT_ENABLED",
            "INBOUND_DEFAULT_POLICY", "CONTROL_LISTEN_ADDR", "ADMIN_LISTEN_ADDR",
            "DESTINATION_PROFILE_SUFFIXES", "TRACE_EXTRA_ATTRIBUTES",
            "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        )),
        "linkerd-proxy.place", "linkerd-proxy.restartPolicy", "linkerd-proxy.resources",
        "linkerd-proxy.imagePullPolicy", "linkerd-proxy.ports", "linkerd-proxy.*Probe",
        "linkerd-proxy.lifecycle", "linkerd-init.resources", "linkerd-init.imagePullPolicy",
        "linkerd-init.args.--inbound-ports-to-ignore",
        "linkerd-init.args.--outbound-ports-to-ignore", "linkerd-init.args.--subnets-to-ignore",
        "linkerd-network-validator.resources", "linkerd-network-validator.imagePullPolicy",
        "container.linkerd-debug", "container.linkerd-debug.*Probe",
    ),
    "istio": (
        *(f"istio-*.env.{name}" for name in istio.HARMLESS_ENV),
        *(f"istio-proxy.env.{name}" for name in (
            "PROXY_CONFIG", "ISTIO_META_INTERCEPTION_MODE", "ISTIO_PROMETHEUS_ANNOTATIONS",
            "ISTIO_KUBE_APP_PROBERS", "ISTIO_META_WORKLOAD_NAME", "ISTIO_META_OWNER",
                "ISTIO_META_NETWORK",
        )),
        *(f"istio-proxy.args.{flag}" for flag in (
            "--proxyLogLevel", "--proxyComponentLogLevel", "--log_output_level", "--concurrency",
        )),
        *(f"istio-*.args.{flag}" for flag in (
            "-u", "-m", "-b", "-d", "-i", "-x", "-q", "-o", "-k", "-c", "--log_output_level",
        )),
        "istio-*.image", "istio-*.resources", "istio-proxy.place", "istio-proxy.restartPolicy",
        "istio-proxy.lifecycle", "istio-proxy.*Probe", "istio-proxy.securityContext.*",
        "istio-validation.securityContext.*", "container.*.*Probe",
        "label.networking.istio.io/tunnel", "label.service.istio.io/canonical-*",
    ),
    "ambient": (),
}  # fmt: skip


def unexplained(
    by: str, bare: Json, made: Json, said: Mapping[str, str], labels: Mapping[str, str]
) -> list[str]:
    """Return the places where a pod differs from the plain one, and no key explains it.

    `said` are the author's annotations: a user's volume must be as they define it.
    """
    before, after = parts(bare), parts(made)
    allowed = (*_MAY_CHANGE[by], *_users(said, after), *(f"label.{key}" for key in labels))
    found = [
        place
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
        and not any(fnmatch.fnmatchcase(place, one) for one in allowed)
    ]
    for place in sorted(after.keys() - {p for p in before if before[p] == after.get(p)}):
        if ".env." in place and place not in found and _expands(after[place], before.get(place)):
            found.append(f"{place} is expanded by the kubelet")
    found += _config(before, after, said)
    return found


def _expands(value: Any, before: Any) -> bool:
    """Whether a variable's value refers to others, as its default does not."""
    references = {part.partition(")")[0] for part in str(value).split("$(")[1:]}
    return not references <= {part.partition(")")[0] for part in str(before).split("$(")[1:]}


def _users(said: Mapping[str, str], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the volumes and mounts of the author's annotations."""
    volumes = json.loads(said.get("sidecar.istio.io/userVolume", "{}"))
    for name, source in volumes.items():
        if _holds(after.get(f"volume.{name}"), source):
            yield f"volume.{name}"
    for name, mount in json.loads(said.get("sidecar.istio.io/userVolumeMount", "{}")).items():
        place = f"istio-proxy.volumeMounts.{mount['mountPath']}"
        if _holds(after.get(place), {"name": name, **mount}):
            yield place


def _holds(made: Any, said: Any) -> bool:
    """Return whether a value is the requested one, apart from the API server's defaults."""
    if isinstance(said, dict):
        return isinstance(made, dict) and all(_holds(made.get(key), said[key]) for key in said)
    if isinstance(said, list):
        return isinstance(made, list) and len(made) == len(said) and all(map(_holds, made, said))
    return bool(made == said or (made is None and said in (False, "")))


def _config(
    before: Mapping[str, Any], after: Mapping[str, Any], said: Mapping[str, str]
) -> Iterator[str]:
    """Yield keys of Istio's proxy configuration that neither the mesh nor the author gave it."""
    place = "istio-proxy.env.PROXY_CONFIG"
    known = proxyconfig.parse(said.get("proxy.istio.io/config")) or {}
    defaults = proxyconfig.parse(before.get(place)) or {}
    for key in proxyconfig.parse(after.get(place)) or {}:
        if key not in known and key not in defaults:
            yield f"{place}.{key}"


def parts(pod: Json) -> dict[str, Any]:
    """Return the parts of a pod by their place, each container's by the container's name."""
    spec, found = pod["spec"], {}
    for name, value in (pod["metadata"].get("labels") or {}).items():
        found[f"label.{name}"] = value
    for volume in spec.get("volumes") or ():
        found[f"volume.{volume['name']}"] = {k: v for k, v in volume.items() if k != "name"}
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            name = container["name"]
            if name in _OWN:
                found |= {f"{name}.{place}": value for place, value in _own(container)}
                found[f"{name}.place"] = kind
            else:
                probes = {k: v for k, v in container.items() if k.endswith("Probe")}
                found |= {f"container.{name}.{k}": v for k, v in probes.items()}
                found[f"container.{name}"] = {k: v for k, v in container.items() if k not in probes}
    rest = ("volumes", "initContainers", "containers")
    return found | {f"spec.{key}": value for key, value in spec.items() if key not in rest}


def _own(container: Json) -> Iterator[tuple[str, Any]]:
    for key, value in container.items():
        if key == "env":
            for entry in value:
                yield f"env.{entry['name']}", entry.get("value", entry.get("valueFrom"))
        elif key == "args":
            yield from ((f"args.{flag}", text) for flag, text in _flags(value))
        elif key == "volumeMounts":
            for mount in value:
                yield f"volumeMounts.{mount['mountPath']}", mount
        elif key == "securityContext":
            yield from ((f"securityContext.{inner}", text) for inner, text in value.items())
        else:
            yield key, value


def _flags(args: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield flags with their values, which follow the flag or an equals sign."""
    at = 0
    while at < len(args):
        flag, equals, value = args[at].partition("=")
        follows = args[at + 1 : at + 2]
        if flag.startswith("-") and not equals and follows and not follows[0].startswith("-"):
            at += 1
            yield flag, follows[0]
        else:
            yield flag, value if equals else None
        at += 1
