"""Pods with expensive reviews. Each case has one part of a pod very often, or very long.

The API server accepts objects of up to 3 MiB. A case gets a size in bytes and creates an object of
about that size. `tests/unit/policy/test_cost.py` limits the work for each case, and `make fuzz`
searches for worse ones.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.fixtures.meshes import ambient, istio, linkerd
from tests.standins import istio as istiod
from tests.standins import linkerd as injector

Json = dict[str, Any]
#: Changes a pod so that it grows by about this number of bytes.
Grow = Callable[[Json, int], None]

#: The largest object that an API server accepts.
LARGEST = 3 * 1024 * 1024
#: With this character, Python stores the whole text with four bytes per character.
WIDE = "\U0001f4a5"
_ITEMS: dict[str, Grow] = {}


def app(mesh: str) -> Json:
    """Return an author's pod in a mesh, before injection."""
    made: Json = {"linkerd": linkerd.app, "istio": istio.app, "ambient": ambient.app}[mesh]()
    return made


def injected(mesh: str) -> Json:
    """Return the same pod after injection, with an init container for the redirection rules."""
    pod = app(mesh)
    if mesh == "linkerd":
        return injector.inject(pod, None, injector.InjectorConfig()).pod
    return istiod.inject(pod, istiod.InjectorConfig()) if mesh == "istio" else pod


def _case(grow: Grow) -> Grow:
    _ITEMS[grow.__name__.strip("_")] = grow
    return grow


def _many(size: int, each: int) -> range:
    return range(size // each)


def _mesh_containers(pod: Json) -> list[Json]:
    """Return the first three of the mesh's containers, to limit how often a part is added."""
    everything = (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    named = [one for one in everything if one.get("name", "").startswith(("istio-", "linkerd-"))]
    return named[:3]


def _annotations(pod: Json) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"].setdefault("annotations", {})
    return found


def _set(key: str, text: Callable[[int], str]) -> Grow:
    def grow(pod: Json, size: int) -> None:
        _annotations(pod)[key] = text(size)

    return grow


def ports(size: int) -> str:
    """Return a list of ports of about that length, without the mesh's own."""
    return ",".join(str(10_000 + number % 50_000) for number in _many(size, 6))


def users(size: int) -> str:
    """Return a list of users that are not numbers."""
    return "a," * (size // 2)


def references(size: int) -> str:
    """Return a text with one reference to a variable after another."""
    return "".join(f"$(V{number})" for number in _many(size, 9))


def yaml_list(size: int) -> str:
    """Return a proxy configuration with a long list, in a nesting depth that is admitted."""
    return "extraStatTags: [" + "a," * (size // 2 - 12) + "]"


def _unknown_annotations(pod: Json, size: int) -> None:
    domain = "config.linkerd.io" if "linkerd.io/inject" in str(pod) else "x.istio.io"
    _annotations(pod).update({f"{domain}/k{number}": "" for number in _many(size, 30)})


def _unknown_labels(pod: Json, size: int) -> None:
    labels = pod["metadata"].setdefault("labels", {})
    for domain in ("linkerd.io", "istio.io"):
        labels.update({f"{domain}/k{number}": "" for number in _many(size // 2, 24)})


def _long_keys(pod: Json, size: int) -> None:
    for domain in ("config.linkerd.io", "x.istio.io"):
        _annotations(pod)[f"{domain}/{'k' * (size // 2)}"] = "x"


def _record(pod: Json, size: int) -> None:
    _annotations(pod)["mendix-mesh.io/inputs"] = ", " * (size // 2)


def _owners(pod: Json, size: int) -> None:
    pod["metadata"]["ownerReferences"] = [{"name": '"'} for _ in _many(size, 15)]


def _containers(pod: Json, size: int) -> None:
    pod["spec"]["containers"] += [{"name": f"c{number}"} for number in range(495)]
    pod["spec"]["containers"][0]["args"] = ["x" * max(0, size - 10_000)]


def _empty_containers(pod: Json, size: int) -> None:
    pod["spec"]["containers"] += [{} for _ in _many(size, 4)]


def _mesh_named(pod: Json, size: int) -> None:
    names = ("istio-init", "linkerd-init")
    args = ["istio-iptables", "-d", ports(max(6, size // 1000))]
    pod["spec"].setdefault("initContainers", []).extend(
        {"name": name, "args": args} for name in names for _ in range(240)
    )


def _env(pod: Json, size: int) -> None:
    """Add as many variables as are read to each of the mesh's containers."""
    for container in _mesh_containers(pod):
        container["env"] = container.get("env", []) + [
            {"name": f"LD_{number}", "value": "$(X)"} for number in _many(min(size, 60_000), 34)
        ]


def _proxy_configs(pod: Json, size: int) -> None:
    for container in _mesh_containers(pod):
        container.setdefault("env", []).extend(
            {"name": "PROXY_CONFIG", "value": f"x: {number}\n" + yaml_list(32_000)}
            for number in _many(size, 32_000)
        )


def _one_config(pod: Json, size: int) -> None:
    for container in _mesh_containers(pod):
        text = yaml_list(min(size, 32_000))
        container.setdefault("env", []).append({"name": "PROXY_CONFIG", "value": text})


def _arguments(pod: Json, size: int) -> None:
    for container in _mesh_containers(pod):
        container["args"] = [*container.get("args", ()), *("a" for _ in _many(size, 5))]


def _flag(*names: str, text: Callable[[int], str]) -> Grow:
    def grow(pod: Json, size: int) -> None:
        for container in _mesh_containers(pod):
            if container["name"].endswith("-init"):
                args = container["args"] = [*container.get("args", ())]
                for name in names:
                    value = text(size // len(names))
                    if name in args[:-1]:
                        args[args.index(name) + 1] = value
                    else:
                        args += [name, value]

    return grow


def _argument_references(pod: Json, size: int) -> None:
    for container in _mesh_containers(pod):
        container.setdefault("args", []).append(references(size // 3))


def _udp_ports(pod: Json, size: int) -> None:
    pod["spec"]["containers"][0]["ports"] = [
        {"containerPort": number, "protocol": "UDP"} for number in _many(size, 41)
    ]


def _aliases(pod: Json, size: int) -> None:
    pod["spec"]["hostAliases"] = [{"hostnames": ["a.b.c.d"] * (size // 11)}]


def _volumes(pod: Json, size: int) -> None:
    pod["spec"].setdefault("volumes", []).extend({"a": 1} for _ in _many(size, 9))


def _podinfo(pod: Json, size: int) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [v for v in pod["spec"].get("volumes", ()) if v.get("name") != "istio-podinfo"]
    source = {"items": items * (size // 80)}
    pod["spec"]["volumes"] = [*volumes, {"name": "istio-podinfo", "downwardAPI": source}]


def _mounts(pod: Json, size: int) -> None:
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "x"} for _ in _many(size, 14)]


def _env_from(pod: Json, size: int) -> None:
    pod["spec"]["containers"][0]["envFrom"] = [{"a": 1} for _ in _many(size, 9)]


def _nested_env_from(pod: Json, size: int) -> None:
    pod["spec"]["containers"][0]["envFrom"] = [[[]] for _ in _many(size, 6)]


def _capabilities(pod: Json, size: int) -> None:
    context = pod["spec"]["containers"][0].setdefault("securityContext", {})
    context["capabilities"] = {"add": ["a"] * (size // 10), "drop": ["a"] * (size // 10)}


def _groups(pod: Json, size: int) -> None:
    whole = pod["spec"].setdefault("securityContext", {})
    whole["supplementalGroups"] = list(range(10_000, 10_000 + size // 7))


def _command(pod: Json, size: int) -> None:
    for container in (*_mesh_containers(pod), pod["spec"]["containers"][0]):
        container["command"] = ["x"] * (size // 15)


def _wide_annotation(pod: Json, size: int) -> None:
    for key in ("traffic.sidecar.istio.io/excludeInboundPorts",
                "config.linkerd.io/skip-inbound-ports"):  # fmt: skip
        _annotations(pod)[key] = ports(size // 2) + WIDE


def _wide_argument(pod: Json, size: int) -> None:
    _flag("-d", "--inbound-ports-to-ignore", text=lambda most: ports(most) + WIDE)(pod, size)


def _metrics(pod: Json, size: int) -> None:
    text = json.dumps({f"k{number}": "" for number in _many(min(size, 32_000), 12)})
    for container in _mesh_containers(pod):
        container.setdefault("env", []).append(
            {"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": text}
        )


def _user_volumes(pod: Json, size: int) -> None:
    made: Json = {f"v{number}": {"hostPath": {}} for number in _many(min(size, 32_000), 26)}
    _annotations(pod)["sidecar.istio.io/userVolume"] = json.dumps(made)
    mounts = {f"v{number}": {"mountPath": f"/etc/{number}"} for number in _many(32_000, 38)}
    _annotations(pod)["sidecar.istio.io/userVolumeMount"] = json.dumps(mounts)


def _additional_env(pod: Json, size: int) -> None:
    listed = [{"name": f"V{number}"} for number in _many(min(size, 8_000), 18)]
    _annotations(pod)["config.linkerd.io/proxy-additional-env"] = json.dumps(listed)


for _grow in (
    _unknown_annotations, _unknown_labels, _long_keys, _record, _owners, _containers,
    _empty_containers, _mesh_named, _env, _proxy_configs, _one_config, _arguments,
    _argument_references, _udp_ports, _aliases, _volumes, _podinfo, _mounts, _env_from,
    _nested_env_from, _capabilities, _groups, _command, _wide_annotation, _wide_argument, _metrics,
    _user_volumes, _additional_env,
):  # fmt: skip
    _case(_grow)
_ITEMS["inbound_ports"] = _flag("-d", "--inbound-ports-to-ignore", text=ports)
_ITEMS["users"] = _flag("-u", "-g", "--proxy-uid", "--proxy-gid", text=users)
_ITEMS["commas"] = _flag("-d", "-o", "-x", "--subnets-to-ignore", text=lambda size: "," * size)
_ITEMS["annotated_ports"] = _set("traffic.sidecar.istio.io/excludeInboundPorts", ports)
_ITEMS["skipped_ports"] = _set("config.linkerd.io/skip-inbound-ports", ports)
_ITEMS["proxy_config"] = _set("proxy.istio.io/config", lambda size: yaml_list(min(size, 32_000)))
_ITEMS["networks"] = _set("k8s.v1.cni.cncf.io/networks", lambda size: "\n" * size + WIDE)
_ITEMS["inject"] = _set("linkerd.io/inject", lambda size: "\n" * size + WIDE)

CASES = tuple(_ITEMS)


def pod(mesh: str, case: str, size: int, *, submitted: bool = False) -> Json:
    """Return a pod of a mesh with one very large part. `submitted`: before the injector."""
    made = app(mesh) if submitted else injected(mesh)
    _ITEMS[case](made, size)
    return made


def body(now: Json, old: Json | None = None, *, kind: str = "Pod") -> bytes:
    """Return a review of the creation or the change of an object."""
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": kind},
            "operation": "UPDATE" if old else "CREATE",
            "namespace": "mendix",
            "object": now,
            "oldObject": old,
        },
    }
    return encoded(review)


def encoded(document: Json) -> bytes:
    """Return a document as JSON without blanks."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def deployment(template: Json) -> Json:
    """Return a Deployment with this pod template."""
    made = {key: template[key] for key in ("metadata", "spec")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "namespace": "mendix"},
        "spec": {"template": made},
    }


def mixed(mesh: str, recipe: list[tuple[str, int]], *, submitted: bool = False) -> Json:
    """Return a pod of a mesh with several large parts."""
    made = app(mesh) if submitted else injected(mesh)
    for case, size in recipe:
        _ITEMS[case](made, size)
    return made
