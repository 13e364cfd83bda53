"""Workloads without any mesh settings, and checks of their pods."""

import copy
from typing import Any

from tests.cluster.api import Api, Json, wait_for
from tests.cluster.build import ALL
from tests.cluster.plane import is_ready

VERSIONS = {
    "Pod": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}
"""Each kind that creates pods, with its apiVersion."""

INJECT = "linkerd.io/inject"
NATIVE = "config.linkerd.io/proxy-enable-native-sidecar"
CONTROL_PLANE_NS = "linkerd.io/control-plane-ns"


def pod(
    namespace: str,
    name: str = "shop",
    *,
    labels: Json | None = None,
    annotations: Json | None = None,
    **spec: Any,
) -> Json:
    """Return a pod with one container named app. `spec` adds fields or replaces them."""
    metadata: Json = {"name": name, "namespace": namespace}
    metadata |= {"labels": labels} if labels else {}
    metadata |= {"annotations": annotations} if annotations else {}
    containers = [{"name": "app", "image": "registry.example.com/shop:1"}]
    whole = {"containers": containers, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(whole)}


def workload(
    kind: str,
    namespace: str,
    name: str = "shop",
    *,
    replicas: int = 1,
    annotations: Json | None = None,
    **spec: Any,
) -> Json:
    """Return an object of any kind that creates pods. Annotations and `spec` are its pods'."""
    labels = {"app": name}
    made = pod(namespace, name, labels=labels, annotations=annotations, **spec)
    if kind == "Pod":
        return made
    del made["metadata"]["name"], made["metadata"]["namespace"]
    template = {"metadata": made["metadata"], "spec": made["spec"]}
    own: Json = {"template": template}
    if kind in ("Job", "CronJob"):
        template["spec"].setdefault("restartPolicy", "Never")
    else:
        own["selector"] = {"matchLabels": labels}
    if kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        own["replicas"] = replicas
    if kind == "StatefulSet":
        own["serviceName"] = name
    if kind == "CronJob":
        own = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": own}}
    return {
        "apiVersion": VERSIONS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": own,
    }


def copy_of(stored: Json, name: str = "copy", *, labels: Json | None = None) -> Json:
    """Return a pod that its author creates from a stored one, optionally with other labels."""
    meta = stored["metadata"]
    metadata = {
        "name": name,
        "namespace": meta["namespace"],
        "labels": meta["labels"] if labels is None else labels,
        "annotations": meta["annotations"],
    }
    spec = {key: value for key, value in stored["spec"].items() if key != "nodeName"}
    return copy.deepcopy({**stored, "metadata": metadata, "spec": spec})


def template_of(obj: Json) -> Json:
    """Return the pod template of a controller."""
    spec: Json = obj["spec"]
    template: Json = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return template


def annotations_of(obj: Json) -> Json:
    """Return the annotations of an object or a template; empty if it has none."""
    annotations: Json = obj["metadata"].get("annotations") or {}
    return annotations


def sidecar_of(obj: Json) -> str:
    """Return the kind of Linkerd's proxy in a stored pod: native, classic, or "" for none."""
    for shape, place in (("native", "initContainers"), ("classic", "containers")):
        if any(c["name"] == "linkerd-proxy" for c in obj["spec"].get(place, ())):
            return shape
    return ""


def is_meshed(obj: Json) -> bool:
    """Return whether a stored pod has the proxy, and the label by which the mesh recognizes it."""
    labels = obj["metadata"].get("labels", {})
    return bool(sidecar_of(obj)) and labels.get(CONTROL_PLANE_NS) == "linkerd"


def is_invalid_patch(message: str) -> bool:
    """Return whether the API server itself denied a pod, because an injector's patch is invalid.

    Since 1.34 it goes on as if the injector had not answered.
    """
    return ALL["kube-apiserver"].version < (1, 34) and "error occurred: invalid char" in message


def pods_of(api: Api, namespace: str, name: str = "shop") -> list[Json]:
    """Return the pods of the workload with this name, without those that are being deleted."""
    found = api.list("Pod", namespace, labels=f"app={name}")
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def ready_pods(
    api: Api, namespace: str, name: str = "shop", *, count: int = 1, seconds: float = 60.0
) -> list[Json]:
    """Wait until a workload has `count` pods, and all are ready or have succeeded."""

    def all_up() -> list[Json]:
        found = pods_of(api, namespace, name)
        up = [one for one in found if is_ready(one) or one["status"].get("phase") == "Succeeded"]
        return up if len(up) == len(found) == count else []

    return wait_for(all_up, seconds=seconds, why=f"{count} pods of {name} in {namespace}")


def rolled_out(api: Api, namespace: str, name: str = "shop") -> Json | None:
    """Return a Deployment if its controllers have nothing more to do, else None."""
    found = api.get("Deployment", name, namespace)
    status, wanted = found["status"], found["spec"]["replicas"]
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    observed = status.get("observedGeneration") == found["metadata"]["generation"]
    scaling = [
        one for one in api.list("ReplicaSet", namespace, labels=f"app={name}")
        if one["status"].get("replicas", 0) != one["spec"]["replicas"]
    ]  # fmt: skip
    return found if observed and counts == {wanted} and not scaling else None


def failed_create(api: Api, namespace: str, name: str) -> str:
    """Return the newest event of a controller that could not create a pod; "" if there is none."""
    events = [
        event
        for event in api.list("Event", namespace, fields="reason=FailedCreate")
        if event["involvedObject"]["name"].startswith(name)
    ]
    return str(events[-1]["message"]) if events else ""
