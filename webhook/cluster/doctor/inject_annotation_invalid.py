"""The namespace's own inject annotation has a value that makes the injector skip every pod."""

from collections.abc import Iterator

from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place
from webhook.policy.meshes.linkerd import INJECT

SYMPTOM = Symptom(
    id="inject-annotation-invalid",
    severity="error",
    meshes=("linkerd",),
    means="the injector skips every pod of the namespace, whatever the pod says",
    mend=f"remove the namespace's annotation {INJECT}, or set it to enabled",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
)
_VALID = ("", "enabled", "disabled", "ingress")


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield the value."""
    value = place.namespace.annotations.get(INJECT, "")
    if value not in _VALID:
        yield Evidence(f"the namespace's annotation {INJECT} says {value}")
