"""The injector is installed but skips the namespace's pods."""

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
    means="the injector's selectors exclude these pods, so the pods get no proxy",
    fix="remove the label that excludes the namespace (config.linkerd.io/admission-webhooks or "
    "istio-injection), or correct the injector's namespaceSelector",
    source="linkerd2 proxy-injector-rbac.yaml; istio pkg/kube/inject/inject.go injectRequired",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why the injector skips a pod that our mutating webhook has marked for injection."""
    injectors = facts.injectors(place.mesh.name)
    if not injectors:
        return
    if place.mesh.name == "istio":
        request = Request(namespace=place.name)
        pod = pod_of(facts.promised(place), place.mesh, request)
        assert pod is not None  # noqa: S101 - a pod has a pod
        decision = would_inject(pod, place.namespace.labels, facts.revisions())
        if not decision.injected:
            yield Occurrence(decision.reason)
            return
    if not facts.callers(place):
        names = sorted({entry.configuration for entry in injectors})
        yield Occurrence(f"the selectors of {', '.join(names)} exclude the namespace or its pods")
