"""The namespace has a label where the mesh reads an annotation, or an annotation for a label."""

from collections.abc import Iterator, Mapping

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, pointer

FINDING = FindingRule(
    id="label-not-annotation",
    severity="warning",
    means="the mesh ignores it, so it has no effect",
    fix="remove it, or set it as the kind that the mesh reads if you want its effect",
    source="linkerd2 pkg/healthcheck/healthcheck_labels.go; istio IO docs, injection labels",
)
#: Prefixes of keys that Linkerd reads only from annotations, and the key that it reads as a label.
_ANNOTATIONS, _LABEL = (
    ("linkerd.io/inject", "config.linkerd.io/"),
    ("config.linkerd.io/admission-webhooks"),
)
#: Keys that Istio reads only from labels.
_LABELS = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")
#: Opt-ins by mesh. Only these are moved, because they ask for what enrollment does anyway.
_OPT_INS: Mapping[str, tuple[str, str, str, str]] = {
    "linkerd": ("labels", "annotations", "linkerd.io/inject", "enabled"),
    "istio": ("annotations", "labels", "istio-injection", "enabled"),
    "ambient": ("annotations", "labels", "istio.io/dataplane-mode", "ambient"),
}


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each label and annotation of the namespace that is of the wrong kind."""
    labels, annotations = place.namespace.labels, place.namespace.annotations
    if place.mesh.name == "linkerd":
        wrong = [key for key in labels if key.startswith(_ANNOTATIONS) and key != _LABEL]
        yield from _misplaced("label", "annotation", wrong, labels)
        yield from _misplaced("annotation", "label", [_LABEL], annotations)
    else:
        yield from _misplaced("annotation", "label", _LABELS, annotations)


def _misplaced(
    has: str, wants: str, keys: list[str] | tuple[str, ...], marks: Mapping[str, str]
) -> Iterator[Occurrence]:
    for key in keys:
        if key in marks:
            yield Occurrence(
                f"the namespace has the {has} {key}={marks[key]}; the mesh reads it only as "
                f"{'an annotation' if wants == 'annotation' else 'a label'}"
            )


def repair(facts: Facts, place: Place) -> Iterator[Repair]:
    """Yield a repair that moves an opt-in, unless the right place already has a value."""
    has, wants, key, value = _OPT_INS[place.mesh.name]
    meta = {"labels": place.namespace.labels, "annotations": place.namespace.annotations}
    taken = key in meta[wants] or (wants == "labels" and "istio.io/rev" in meta[wants])
    if meta[has].get(key) != value or taken:
        return
    # istio-injection takes precedence over the pods' revision, and calls the default injector.
    ours = facts.settings.istio.revision or "default"
    if place.mesh.name == "istio" and (ours != "default" or "default" not in facts.revisions()):
        return
    where = pointer("metadata", has, key)
    # A namespace always has labels.
    empty = wants == "annotations" and not meta[wants]
    made = [{"op": "add", "path": "/metadata/annotations", "value": {}}] if empty else []
    yield Repair(
        id=FINDING.id,
        what=f"namespace {place.name}: move {key}={value} from its {has} to its {wants}",
        where=path("v1", "namespaces", name=place.name),
        patch=[
            {"op": "test", "path": where, "value": value},
            {"op": "remove", "path": where},
            *made,
            {"op": "add", "path": pointer("metadata", wants, key), "value": value},
        ],
    )
