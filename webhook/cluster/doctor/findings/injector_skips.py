"""The injector is installed but skips the namespace's pods."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.meshes.istio.injection import INJECTION, would_inject
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of

FINDING = FindingRule(
    id="injector-skips",
    severity="error",
    meshes=("linkerd", "istio"),
    means="the injector's selectors exclude these pods, so the pods get no proxy",
    fix="remove the label that excludes the namespace, or correct the injector's selectors",
    because=("revision-unknown",),
    source="linkerd2 proxy-injector-rbac.yaml; istio pkg/kube/inject/inject.go injectRequired",
)
#: Linkerd's label for namespaces that its injector skips, and the values of such labels.
_DISABLED, _EXCLUDING = "config.linkerd.io/admission-webhooks", ("disabled", "false")


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
            yield Occurrence(decision.reason, fix=_fix(place, INJECTION))
            return
    if not facts.callers(place):
        names = sorted({entry.configuration for entry in injectors})
        yield Occurrence(
            f"the selectors of {', '.join(names)} exclude the namespace or its pods",
            fix=_fix(place, _DISABLED),
        )


def _fix(place: Place, label: str) -> str:
    """Return the command that removes the label if it excludes the namespace; else nothing."""
    if place.namespace.labels.get(label) in _EXCLUDING:
        return f"kubectl label namespace {place.name} {label}-"
    return ""
