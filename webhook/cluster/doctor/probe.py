"""The probe: a pod that doctor creates in a dry run, so that the API server does not store it.

It passes every webhook and Pod Security like any other pod. The policy then judges the result.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jsonpatch
import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.kinds.webhooks import OURS
from webhook.policy import checks
from webhook.policy.mesh import Mesh
from webhook.policy.mutate import mutate
from webhook.policy.pod import objects
from webhook.policy.pod.objects import Object, PodSpec
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import validate

#: The check for a pod without a proxy.
ABSENT = "proxy-missing"
_NAME = "mendix-mesh-doctor-probe"
_DENIED = f'{OURS}" denied the request: '


class Probe(NamedTuple):
    """The result of the dry run."""

    #: The pod as it would be stored; None if it was denied.
    stored: Object | None
    #: The API server's message if the pod was denied.
    denial: str
    #: The checks that the pod breaks, each with field and reason. If our webhook denied the pod,
    #: they are taken from its message.
    broken: Mapping[str, str]

    @property
    def is_meshed(self) -> bool:
        """Return whether the pod would be in the mesh."""
        return self.stored is not None and not self.broken

    @property
    def init_containers(self) -> set[str]:
        """Return the names of the pod's init containers."""
        spec = self._spec
        return {one.name for one in (spec.init_containers if spec else None) or ()}

    @property
    def containers(self) -> set[str]:
        """Return the names of the pod's regular containers."""
        spec = self._spec
        return {one.name for one in (spec.containers if spec else None) or ()}

    @property
    def _spec(self) -> PodSpec | None:
        return self.stored.spec if self.stored else None


def pod(
    namespace: str,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    *,
    task: bool = False,
) -> dict[str, Any]:
    """Return a pod that asks for nothing from the mesh and meets every Pod Security level.

    With `task` it is a pod that ends, like the pods that build an app or provision a database.
    """
    container = {
        "name": "probe",
        "image": _NAME,
        "resources": {key: {"cpu": "10m", "memory": "16Mi"} for key in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    marks = {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _NAME, "namespace": namespace, **marks},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never" if task else "Always",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


def promised(made: dict[str, Any], mesh: Mesh, settings: Settings) -> Object:
    """Return the pod after our mutating webhook."""
    request = Request(namespace=made["metadata"]["namespace"], object=objects.convert(made))
    patch = mutate(request, mesh, settings)
    return objects.convert(jsonpatch.apply_patch(made, msgspec.to_builtins(patch)))


def ask(
    cluster: Cluster,
    namespace: str,
    mesh: Mesh,
    settings: Settings,
    *,
    ingress: bool,
    task: bool = False,
) -> Probe:
    """Create a pod, or a task pod, in a dry run, and judge it.

    Raises `StatusError` if the user is not allowed to create pods, or the namespace is gone.
    """
    try:
        wanted = pod(namespace, task=task)
        made, _ = cluster.create(path("v1", "pods", namespace), wanted, dry_run=True)
    except StatusError as error:
        if error.code in (401, 404) or "cannot create resource" in str(error):
            raise
        return Probe(None, str(error), _named_checks(str(error)))
    stored = objects.convert(made)
    request = Request(namespace=namespace, object=stored, ingress=ingress)
    verdict = validate(request, mesh, "enforce", settings)
    broken = {
        found.check: f"{found.field} {found.reason}"
        for found in verdict.violations
        # These settings may make it advice only; the pod still has no proxy.
        if found.level == "deny" or found.check == ABSENT
    }
    # An exempt pod is admitted, but it is still outside the mesh.
    broken |= {
        found.check: f"{found.field} {found.reason} (exempt: {exemption.reason})"
        for found, exemption in ((done.violation, done.exemption) for done in verdict.exempted)
    }
    return Probe(stored, "", broken)


def _named_checks(denial: str) -> dict[str, str]:
    """Return the checks that our webhook names in its denial; empty if another webhook denied."""
    _, ours, text = denial.partition(_DENIED)
    if not ours:
        return {}
    return {check: text for check in checks.ids() if f" {check} " in text}
