"""Whether Istio's injector injects a pod, according to labels. It skips pods silently.

A pod must meet one of the selectors of the injector's webhooks (istio-discovery/templates/
mutatingwebhook.yaml), and then the injector itself must want it (pkg/kube/inject/inject.go,
injectRequired). Sources are paths in istio at 1.31; the table of all combinations is compared with
the real istiod by the tests.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from webhook.policy.meshes.istio import INJECT, REVISION
from webhook.policy.pod.workload import Pod

#: The namespace's own opt-in, which wins over its revision.
INJECTION = "istio-injection"
#: Namespaces that the injector never touches (pkg/kube/inject/initializer.go).
IGNORED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class Decision(NamedTuple):
    """What becomes of a pod at Istio's injector, and why, in words for a person."""

    injected: bool
    reason: str


def would_inject(
    pod: Pod, namespace: Mapping[str, str], revisions: Collection[str] = ("default",)
) -> Decision:
    """Tell from the labels of the pod's namespace, and from the pod, whether it gets a sidecar.

    `revisions` are the revisions and tags that are installed; the one without a name is "default".
    An injector that is configured otherwise (`autoInject: disabled`, `neverInjectSelector`) can
    skip a pod all the same.
    """
    called = _is_called(pod.labels, namespace, revisions)
    if not called.injected:
        return called
    if pod.spec.host_network:
        return Decision(False, "the pod uses the node's network")
    if pod.namespace in IGNORED:
        return Decision(False, f"Istio never injects pods in the namespace {pod.namespace}")
    # The label wins, and any value but these two counts as none; it was asked for false before.
    if INJECT not in pod.labels and pod.annotations.get(INJECT) == "false":
        return Decision(False, f"the pod has the annotation {INJECT}=false")
    return called


def _is_called(
    labels: Mapping[str, str], namespace: Mapping[str, str], revisions: Collection[str]
) -> Decision:
    """Return whether the selectors of some webhook match: never more than one does."""
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
