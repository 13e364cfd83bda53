"""A label on the namespace where the mesh reads annotations, or the other way round."""

from collections.abc import Iterator, Mapping

from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place

SYMPTOM = Symptom(
    id="label-not-annotation",
    severity="warning",
    means="the mesh does not see it: whoever set it thinks that it does something",
    mend="remove it, or set it in the other place if it is meant",
    source="linkerd2 pkg/healthcheck/healthcheck_labels.go; istio IO docs, injection labels",
)
#: Prefixes of what Linkerd reads from annotations alone, and what it reads from a label.
_ANNOTATIONS, _LABEL = (
    ("linkerd.io/inject", "config.linkerd.io/"),
    ("config.linkerd.io/admission-webhooks"),
)
#: What Istio reads from labels alone.
_LABELS = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield each mark of the namespace that is in the wrong place."""
    labels, annotations = place.namespace.labels, place.namespace.annotations
    if place.mesh.name == "linkerd":
        wrong = [key for key in labels if key.startswith(_ANNOTATIONS) and key != _LABEL]
        yield from _told("label", "annotation", wrong, labels)
        yield from _told("annotation", "label", [_LABEL], annotations)
    else:
        yield from _told("annotation", "label", _LABELS, annotations)


def _told(
    has: str, wants: str, keys: list[str] | tuple[str, ...], marks: Mapping[str, str]
) -> Iterator[Evidence]:
    for key in keys:
        if key in marks:
            yield Evidence(
                f"the namespace has {key}={marks[key]} as {has}; it counts as {wants} alone"
            )
