"""Predicts from labels whether Istio's injector injects a pod. It skips pods without a message.

A pod must match one of the selectors of the injector's webhooks (istio-discovery/templates/
mutatingwebhook.yaml). Then the injector itself decides (pkg/kube/inject/inject.go, injectRequired).
Sources are paths in istio at 1.31. The tests compare the table of all combinations with the real
istiod.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from webhook.policy.meshes.istio import INJECT, REVISION
from webhook.policy.pod.workload import Pod

#: The label for injection on the namespace. It takes precedence over the revision.
INJECTION = "istio-injection"
#: Namespaces that the injector always skips (pkg/kube/inject/initializer.go).
IGNORED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class Decision(NamedTuple):
    """Whether Istio's injector injects a pod, and the reason as a text."""

    injected: bool
    reason: str


def would_inject(
    pod: Pod, namespace: Mapping[str, str], revisions: Collection[str] = ("default",)
) -> Decision:
    """Return whether a pod gets a sidecar, from the labels of its namespace and of the pod.

    `revisions` are the installed revisions and tags. The one without a name is "default". An
    injector with a different configuration (`autoInject: disabled`, `neverInjectSelector`) can
    still skip a pod.
    """
    called = _is_called(pod.labels, namespace, revisions)
    if not called.injected:
        return called
    if pod.spec.host_network:
        return Decision(False, "the pod uses the node's network")
    if pod.namespace in IGNORED:
        return Decision(False, f"Istio never injects pods in the namespace {pod.namespace}")
    # The label takes precedence. Its value `false` was checked before; other values have no effect.
    if INJECT not in pod.labels and pod.annotations.get(INJECT) == "false":
        return Decision(False, f"the pod has the annotation {INJECT}=false")
    return called


def _is_called(
    labels: Mapping[str, str], namespace: Mapping[str, str], revisions: Collection[str]
) -> Decision:
    """Return whether the selectors of a webhook match. At most one webhook matches."""
    if labels.get(INJECT) == "false":
        return Decision(False, f"the pod has the label {INJECT}=false")
    if INJECTION in namespace:
        reason = f"the namespace has the label {INJECTION}={namespace[INJECTION]}"
        if namespace[INJECTION] != "enabled":
            return Decision(False, reason)
        revision = "default"
    elif REVISION in namespace:
        revision = namespace[REVISION]
        reason = f"the namespace has the label {REVISION}={revision}"
    elif REVISION in labels:
        revision = labels[REVISION]
        reason = f"the pod has the label {REVISION}={revision}"
    elif labels.get(INJECT) == "true":
        revision = "default"
        reason = f"the pod has the label {INJECT}=true"
    else:
        return Decision(
            False, "neither the namespace nor the pod has a label that requests a sidecar"
        )
    if revision not in revisions:
        return Decision(False, f"{reason}, and no revision or tag {revision} is installed")
    return Decision(True, reason)
