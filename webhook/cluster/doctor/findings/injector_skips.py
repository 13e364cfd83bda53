"""The injector is there, but passes the namespace's pods by."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.meshes.istio.injection import would_inject
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of

FINDING = FindingRule(
    id="injector-skips",
    severity="error",
    meshes=("linkerd", "istio"),
    means="the injector's selectors leave these pods out, so they get no proxy",
    mend="remove the namespace's label that excludes it (config.linkerd.io/admission-webhooks, "
    "istio-injection), or mend the injector's namespaceSelector",
    source="linkerd2 proxy-injector-rbac.yaml; istio pkg/kube/inject/inject.go injectRequired",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why a pod that we marked would not be taken."""
    injectors = look.injectors(place.mesh.name)
    if not injectors:
        return
    if place.mesh.name == "istio":
        request = Request(namespace=place.name)
        pod = pod_of(look.promised(place), place.mesh, request)
        assert pod is not None  # noqa: S101 - a pod has a pod
        decision = would_inject(pod, place.namespace.labels, look.revisions())
        if not decision.injected:
            yield Occurrence(decision.reason)
            return
    if not look.callers(place):
        names = sorted({entry.configuration for entry in injectors})
        yield Occurrence(f"the selectors of {', '.join(names)} exclude the namespace, or its pods")
