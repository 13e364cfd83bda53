"""Whether a namespace keeps its mesh's injector from its pods, by its labels and annotations.

Manifests show only this. The doctor sees more: the injectors' real selectors, and the installed
revisions.
"""

from collections.abc import Mapping

from webhook.policy.checks import Violation, proxy_missing
from webhook.policy.mesh import Mesh
from webhook.policy.meshes.istio import REVISION
from webhook.policy.meshes.istio.injection import INJECTION, would_inject
from webhook.policy.meshes.linkerd import INJECT
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.objects import Meta
from webhook.policy.pod.workload import Pod
from webhook.policy.settings import Expression, Selector, Settings

#: The label by which a namespace is left out of all of Linkerd's webhooks.
_WEBHOOKS = "config.linkerd.io/admission-webhooks"
#: The injector's namespaceSelector, if its admin set no other (linkerd2 proxy-injector-rbac.yaml).
_LINKERD = Selector(
    match_expressions=[Expression(key=_WEBHOOKS, operator="NotIn", values=["disabled"])]
)
#: The valid values of a namespace's inject annotation of Linkerd.
INJECT_VALUES = ("enabled", "disabled", "ingress")
_FIELD = "metadata.namespace"


def invalid_inject(annotations: Mapping[str, str]) -> str:
    """Return a namespace's value of Linkerd's inject annotation if it is invalid, else nothing.

    With an invalid value, the injector skips every pod, whatever the pod's value is (linkerd2
    pkg/inject/report.go disabledByAnnotation).
    """
    value = annotations.get(INJECT, "")
    return "" if value in INJECT_VALUES else value


def missed(
    pod: Pod, mesh: Mesh, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Violation | None:
    """Return the violation that a pod would get no proxy because of its namespace, if so.

    `labels` and `annotations` are the namespace's; the pod may be a template's.
    """
    if pod.proxy is not None:
        return None
    if mesh.name == "linkerd":
        return _by_linkerd(labels, annotations)
    if mesh.name == "istio":
        return _by_istio(_opted_in(pod, mesh), labels, mesh.settings)
    return None


def _by_linkerd(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Violation | None:
    if not _LINKERD.matches(labels):
        return _absent(
            f"the namespace has the label {_WEBHOOKS}={labels[_WEBHOOKS]}",
            f"namespace's owner: remove the label {_WEBHOOKS}",
        )
    if value := invalid_inject(annotations):
        return _absent(
            f"the namespace's annotation {INJECT} has an invalid value, {value}",
            f"namespace's owner: remove the annotation {INJECT}, or set it to enabled",
        )
    return None


def _by_istio(pod: Pod, labels: Mapping[str, str], settings: Settings) -> Violation | None:
    known = settings.istio.revision or "default"
    decision = would_inject(pod, labels, {known})
    if decision.injected:
        return None
    requested = {labels.get(REVISION, known), pod.labels.get(REVISION, known), "default"}
    alternative = would_inject(pod, labels, requested)
    if alternative.injected:
        # It may be installed. Only a cluster can show it.
        return proxy_missing.CHECK.violation(
            Occurrence(
            _FIELD, (),
            f"gets the mesh's proxy only if that revision is installed: {alternative.reason}, "
            f"while settings.istio.revision is {known}",
            "admin: run mendix-mesh doctor to check that an injector serves this revision",
            "warning",
        ))  # fmt: skip
    return _absent(
        decision.reason,
        f"namespace's owner: remove the label {INJECTION}"
        if INJECTION in labels
        else proxy_missing.CHECK.fix,
    )


def _absent(why: str, fix: str) -> Violation:
    return proxy_missing.CHECK.violation(
        Occurrence(_FIELD, (), f"would not get the mesh's proxy: {why}", fix)
    )


def _opted_in(pod: Pod, mesh: Mesh) -> Pod:
    """Return the pod with the labels that the mutating webhook adds when it is created."""
    wants = {w.key: w.value for w in mesh.opt_in(pod, task=False) if w.place == "labels"}
    meta = Meta(labels={**pod.labels, **wants}, annotations=dict(pod.annotations))
    return Pod(meta, pod.spec, mesh, namespace=pod.namespace)
