"""A label on the namespace where the mesh reads annotations, or the other way round."""

from collections.abc import Iterator, Mapping

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, pointer

FINDING = FindingRule(
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
#: Opt-ins, by mesh: the only marks that are moved, for they ask for what enrollment does anyway.
_OPT_INS: Mapping[str, tuple[str, str, str, str]] = {
    "linkerd": ("labels", "annotations", "linkerd.io/inject", "enabled"),
    "istio": ("annotations", "labels", "istio-injection", "enabled"),
    "ambient": ("annotations", "labels", "istio.io/dataplane-mode", "ambient"),
}


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
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
) -> Iterator[Occurrence]:
    for key in keys:
        if key in marks:
            yield Occurrence(
                f"the namespace has {key}={marks[key]} as {has}; it counts as {wants} alone"
            )


def fix(look: Facts, place: Place) -> Iterator[Fix]:
    """Move an opt-in to where it counts, unless something else is said there."""
    has, wants, key, value = _OPT_INS[place.mesh.name]
    meta = {"labels": place.namespace.labels, "annotations": place.namespace.annotations}
    # Beside a revision istio-injection would win, and ask for another injector.
    taken = key in meta[wants] or (wants == "labels" and "istio.io/rev" in meta[wants])
    if meta[has].get(key) != value or taken:
        return
    where = pointer("metadata", has, key)
    # A namespace always has labels.
    empty = wants == "annotations" and not meta[wants]
    made = [{"op": "add", "path": "/metadata/annotations", "value": {}}] if empty else []
    yield Fix(
        id=FINDING.id,
        what=f"namespace {place.name}: {key}={value} moves from its {has} to its {wants}",
        where=path("v1", "namespaces", name=place.name),
        patch=[
            {"op": "test", "path": where, "value": value},
            {"op": "remove", "path": where},
            *made,
            {"op": "add", "path": pointer("metadata", wants, key), "value": value},
        ],
    )
