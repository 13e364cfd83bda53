"""The pods that are reviewed: a small one, a Mendix app's, and one as large as they get.

Each is there twice: as its author made it, for the mutating webhooks, and as it is stored after
Linkerd's injector (in CNI mode), for the validating ones. They are hardened so that Pod Security's
level `restricted` lets them in: every server says yes to the same pods.
"""

import copy
import json
from typing import Any, NamedTuple

from tests.standins import mendix_manifests
from tests.standins.linkerd import InjectorConfig, inject

Json = dict[str, Any]

NAMESPACE = "bench-mendix"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
LARGE = 1024 * 1024
#: Its opt-in at Linkerd, and at Istio, as our mutating webhook would have added them.
#: What our mutating webhook leaves on the pod: the opt-in, and its record of the author's inputs.
LINKERD = {"linkerd.io/inject": "enabled", "mendix-mesh.io/inputs": "allowed"}
ISTIO = {"sidecar.istio.io/inject": "true"}

_SIZES = ("small", "typical", "large")
#: The longest that a container's environment entry, and half of what all annotations, may be.
_LONG = 128 * 1024


class Bodies(NamedTuple):
    """Reviews of one pod, in JSON."""

    #: For the validating webhooks: after injection.
    stored: bytes
    #: For our mutating webhook: no word of a mesh yet.
    plain: bytes
    #: For istiod: opted in, not yet injected.
    opted_in: bytes


def bodies() -> dict[str, Bodies]:
    """The reviews of each size of pod, smallest first."""
    return {size: _bodies(_pod(size)) for size in _SIZES}


def review(pod: Json, *, namespace: str = NAMESPACE, uid: str = UID) -> bytes:
    """The review of a pod's creation as the API server writes it, in a body of HTTP."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    account = "system:serviceaccount:kube-system:replicaset-controller"
    request = {
        "uid": uid,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {
            "username": account,
            "uid": "00000000-0000-0000-0000-000000000009",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
                "system:authenticated",
            ],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    envelope = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return compact(envelope)


def compact(obj: Json) -> bytes:
    """JSON without blanks, as Go writes it."""
    return json.dumps(obj, separators=(",", ":")).encode()


def app(namespace: str = NAMESPACE) -> Json:
    """A Mendix app's pod before any webhook, hardened."""
    return hardened(mendix_manifests.app_pod("shop", namespace))


def small(namespace: str = NAMESPACE) -> Json:
    """A pod of one container with nothing special about it."""
    container = {"name": "app", "image": "registry.example.com/shop:1"}
    metadata = {"name": "shop", "namespace": namespace, "labels": {"app": "shop"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return hardened({**pod, "spec": {"containers": [container]}})


def large(namespace: str = NAMESPACE, size: int = LARGE) -> Json:
    """A Mendix app's pod that is padded to a size in bytes, by what makes pods large in practice.

    A quarter in an annotation (a manifest that was applied), a quarter in long environment entries
    (files), the rest in short ones (constants).
    """
    pod = app(namespace)
    entries = pod["spec"]["containers"][0]["env"]
    quarter = max(0, size - len(compact(pod))) // 4
    annotations = pod["metadata"].setdefault("annotations", {})
    annotations["kubectl.kubernetes.io/last-applied-configuration"] = "x" * quarter
    for start in range(0, quarter, _LONG):
        value = "y" * min(_LONG, quarter - start)
        entries.append({"name": f"MX_FILE_{start}", "value": value})
    entries += short_entries(2 * quarter // 200)
    return pod


def short_entries(count: int) -> list[Json]:
    """Environment entries of 200 bytes each, with a comma."""
    return [{"name": f"MX_Module_Constant_{i:06}", "value": "z" * 152} for i in range(count)]


def hardened(pod: Json) -> Json:
    """Add what the level `restricted` asks of every container."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    spec.setdefault("securityContext", {})["seccompProfile"] = {"type": "RuntimeDefault"}
    for container in spec.get("initContainers", []) + spec["containers"]:
        container.setdefault("securityContext", {}).update(
            runAsNonRoot=True,
            allowPrivilegeEscalation=False,
            capabilities={"drop": ["ALL"]},
        )
    return pod


def injected(pod: Json) -> Json:
    """The pod as Linkerd's injector stores it, with all capabilities dropped everywhere."""
    annotations = {**pod["metadata"].get("annotations", {}), **LINKERD}
    asking = {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}
    return hardened(inject(asking, None, InjectorConfig(cni=True)).pod)


def _pod(size: str) -> Json:
    return {"small": small, "typical": app, "large": large}[size]()


def _bodies(pod: Json) -> Bodies:
    labels = {**pod["metadata"]["labels"], **ISTIO}
    asking = {**pod, "metadata": {**pod["metadata"], "labels": labels}}
    return Bodies(stored=review(injected(pod)), plain=review(pod), opted_in=review(asking))
