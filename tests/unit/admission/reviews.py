"""AdmissionReviews as the API server writes them, and its requirements for the answers."""

import base64
import copy
import json
from typing import Any

from tests.standins import mendix_manifests
from tests.standins.linkerd import InjectorConfig, inject

Json = dict[str, Any]

#: Every kind of the contract -> its API group and resource; and some that are not in it.
KINDS = {
    "Pod": ("", "pods"),
    "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
    "ReplicaSet": ("apps", "replicasets"),
    "Job": ("batch", "jobs"),
    "CronJob": ("batch", "cronjobs"),
    "Ingress": ("networking.k8s.io", "ingresses"),
}
CONTROLLERS = tuple(kind for kind in KINDS if kind not in ("Pod", "Ingress"))
#: The longest warning that clients show whole, one character above ours.
WARNING_LIMIT = 120

_CONFIG = InjectorConfig(inbound_policy="all-authenticated")
_NAMESPACE = {"metadata": {"name": "mendix", "annotations": {"linkerd.io/inject": "enabled"}}}


def pod(**spec: Any) -> Json:
    """Return a Mendix app's pod before injection, with its own service account.

    It has a generated name, like every pod of a ReplicaSet. `spec` adds to its spec.
    """
    made = mendix_manifests.app_pod("shop", "mendix")
    made["spec"] = {**made["spec"], "serviceAccountName": "shop", **spec}
    return made


def meshed(plain: Json | None = None) -> Json:
    """Return a pod as Linkerd's injector stores it; `pod()` if none is given. It is valid."""
    return inject(plain or pod(), _NAMESPACE, _CONFIG).pod


def controller(kind: str, template: Json | None = None) -> Json:
    """Return an object of a kind that has a pod template, which is `pod()`'s if not given."""
    of = template or pod()
    made = {"metadata": {"labels": of["metadata"]["labels"]}, "spec": copy.deepcopy(of["spec"])}
    if kind in ("Job", "CronJob"):
        made["spec"]["restartPolicy"] = "Never"
    group = KINDS[kind][0]
    spec: Json = {"template": made}
    if kind == "CronJob":
        spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": spec}}
    metadata = {"name": "report", "namespace": "mendix"}
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec}


def ingress(class_name: str = "nginx") -> Json:
    """Return a Mendix environment's Ingress."""
    return mendix_manifests.app_ingress("shop", "mendix", class_name=class_name)


def review(
    obj: Json | None,
    *,
    operation: str = "CREATE",
    old: Json | None = None,
    uid: str = "705ab4f5-6393-11e8-b7cc-42010a800002",
    namespace: str = "mendix",
    subresource: str | None = None,
    kind: str | None = None,
    **request: Any,
) -> Json:
    """Return a review of an object; `request` replaces or adds fields of the request."""
    kind = kind or (obj or old or {})["kind"]
    group, resource = KINDS.get(kind, ("example.com", kind.lower() + "s"))
    kinds = {"group": group, "version": "v1", "kind": kind}
    resources = {"group": group, "version": "v1", "resource": resource}
    fields = {
        "uid": uid,
        "kind": kinds,
        "resource": resources,
        "requestKind": kinds,
        "requestResource": resources,
        "namespace": namespace,
        "operation": operation,
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/node-name": ["node-1"]},
        },
        "object": obj,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    name = ((obj or old or {}).get("metadata") or {}).get("name")
    if name:
        fields["name"] = name
    if subresource:
        fields |= {"subResource": subresource, "requestSubResource": subresource}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {**fields, **request},
    }


def namespace(**labels: str) -> Json:
    """Return a namespace with these labels of ours, and the one that the API server sets."""
    given = {f"mendix-mesh.io/{key}": value for key, value in labels.items()}
    own = {"kubernetes.io/metadata.name": "shop", **given}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": own},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def changed(before: Json, after: Json, **more: Any) -> Json:
    """Return the review of a change of a namespace."""
    return review(after, operation="UPDATE", old=before, namespace="shop", **more)


def accepted(body: bytes, uid: str, *, validating: bool) -> Json:
    """Return the response in an answer that the API server accepts.

    Follows VerifyAdmissionResponse of k8s.io/apiserver (webhook/request/admissionreview.go), and
    Kubernetes' advice on warnings and audit annotations.
    """
    answer = json.loads(body)
    assert answer.keys() == {"apiVersion", "kind", "response"}
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: Json = answer["response"]
    assert response["uid"] == uid
    assert isinstance(response["allowed"], bool)
    assert ("patch" in response) == ("patchType" in response)
    if "patch" in response:
        assert not validating, "a validating webhook must not patch"
        assert response["allowed"]
        assert response["patchType"] == "JSONPatch"
        assert patch_of(response)
    for warning in response.get("warnings", ()):
        assert 0 < len(warning) < WARNING_LIMIT
        assert warning.isprintable(), "one line, nothing that a terminal would obey"
    for key, value in response.get("auditAnnotations", {}).items():
        assert key.isalnum(), "the API server puts the webhook's name and a slash before it"
        assert isinstance(value, str)
    if not response["allowed"]:
        status = response["status"]
        assert (status["status"], status["code"]) == ("Failure", 403)
        assert status["reason"] == "Forbidden"
        assert status["message"]
    return response


def patch_of(response: Json) -> list[Json]:
    """Return the operations in a response; none if it has no patch."""
    if "patch" not in response:
        return []
    operations = json.loads(base64.b64decode(response["patch"], validate=True))
    assert isinstance(operations, list)
    return operations
