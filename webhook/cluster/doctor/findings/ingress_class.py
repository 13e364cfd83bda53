"""The settings name another controller for an ingress class than its IngressClass does."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="ingress-class",
    severity="warning",
    means="Ingresses of this class get an annotation that their controller does not read, so it "
    "calls pods and not the Service",
    fix="set the class in settings.ingress.classes to the controller that serves it, or remove it "
    "there",
    source="nginx.org and nginx.ingress.kubernetes.io annotations; spec.controller of IngressClass",
)
#: `spec.controller` -> its name in the settings.
_NAMES = {"k8s.io/ingress-nginx": "ingress-nginx", "nginx.org/ingress-controller": "f5-nginx"}


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each class that the settings give to a controller that does not serve it."""
    classes = facts.settings.ingress.classes
    if not classes or not facts.objects(path("networking.k8s.io/v1", "ingresses", place.name)):
        return
    for one in facts.objects(path("networking.k8s.io/v1", "ingressclasses")):
        name, controller = one["metadata"]["name"], one["spec"].get("controller", "")
        served, given = _NAMES.get(controller, "none"), classes.get(name)
        if given and given not in (served, "none"):
            yield Occurrence(
                f"settings.ingress.classes has {name}: {given}, but IngressClass {name} has "
                f"spec.controller {controller}"
            )
