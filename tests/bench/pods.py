"""The pods that are reviewed: a small one, a Mendix app's, and one of 1 MiB.

Each is there as its author made it, for the mutating webhooks, and as Linkerd's injector stores it
(in CNI mode), for the validating ones. Pod Security's level `restricted` admits them, so that every
server admits the same pods.
"""

import copy
import json
from functools import cache
from typing import Any, NamedTuple

from tests.standins import mendix_manifests
from tests.standins.linkerd import InjectorConfig, inject
from tests.unit.admission.reviews import review

Json = dict[str, Any]

NAMESPACE = "bench-mendix"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
LARGE = 1024 * 1024
SIZES = ("typical", "small", "large")
#: What the mutating webhook of mendix-mesh adds: the opt-in, and its record of the inputs.
_LINKERD = {"linkerd.io/inject": "enabled", "mendix-mesh.io/inputs": "allowed"}
_ISTIO = {"sidecar.istio.io/inject": "true"}
#: The longest value of an environment variable.
_LONG = 128 * 1024


class Bodies(NamedTuple):
    """Reviews of one pod, in JSON."""

    #: For the validating webhooks: after injection.
    stored: bytes
    #: For mendix-mesh's mutating webhook: without opt-in.
    plain: bytes
    #: For istiod: opted in, not yet injected.
    opted_in: bytes


@cache
def bodies(size: str) -> Bodies:
    """Return the reviews of a size of pod."""
    pod = {"small": _small, "typical": app, "large": _large}[size]()
    annotations = {**pod["metadata"].get("annotations", {}), **_LINKERD}
    asking = {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}
    stored = _hardened(inject(asking, None, InjectorConfig(cni=True)).pod)
    labels = {**pod["metadata"]["labels"], **_ISTIO}
    opted_in = {**pod, "metadata": {**pod["metadata"], "labels": labels}}
    return Bodies(*(_compact(review(one, uid=UID, namespace=NAMESPACE))
                    for one in (stored, pod, opted_in)))  # fmt: skip


def app(namespace: str = NAMESPACE) -> Json:
    """Return a Mendix app's pod before any webhook."""
    return _hardened(mendix_manifests.app_pod("shop", namespace))


def _small() -> Json:
    """Return a pod of one container with nothing special about it."""
    container = {"name": "app", "image": "registry.example.com/shop:1"}
    metadata = {"name": "shop", "namespace": NAMESPACE, "labels": {"app": "shop"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return _hardened({**pod, "spec": {"containers": [container]}})


def _large() -> Json:
    """Return a Mendix app's pod, made large by what makes pods large in practice.

    A quarter is an annotation (a manifest that was applied), a quarter is long environment entries
    (files), and the rest is entries of 200 bytes (constants).
    """
    pod = app()
    entries = pod["spec"]["containers"][0]["env"]
    quarter = (LARGE - len(_compact(pod))) // 4
    annotations = pod["metadata"].setdefault("annotations", {})
    annotations["kubectl.kubernetes.io/last-applied-configuration"] = "x" * quarter
    for start in range(0, quarter, _LONG):
        value = "y" * min(_LONG, quarter - start)
        entries.append({"name": f"MX_FILE_{start}", "value": value})
    for number in range(2 * quarter // 200):
        entries.append({"name": f"MX_Module_Constant_{number:06}", "value": "z" * 152})
    return pod


def _compact(obj: Json) -> bytes:
    return json.dumps(obj, separators=(",", ":")).encode()


def _hardened(pod: Json) -> Json:
    """Return the pod with what the level `restricted` demands of each container."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    spec.setdefault("securityContext", {})["seccompProfile"] = {"type": "RuntimeDefault"}
    for container in spec.get("initContainers", []) + spec["containers"]:
        container.setdefault("securityContext", {}).update(
            runAsNonRoot=True, allowPrivilegeEscalation=False, capabilities={"drop": ["ALL"]}
        )
    return pod
