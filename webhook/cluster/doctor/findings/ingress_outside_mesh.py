"""An ingress controller of the namespace is outside the mesh, or can't be in it."""

from collections.abc import Iterator

from webhook.cluster.api.connection import Json, path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.entrances import Controller, controller_of
from webhook.policy.ingress import class_of
from webhook.policy.pod.objects import convert
from webhook.policy.words import listed

FINDING = FindingRule(
    id="ingress-outside-mesh",
    severity="warning",
    means="the mesh does not encrypt the requests that it sends to the apps, and apps that are "
    "closed to plaintext reject them",
    fix="bring the controller into the mesh, or use one that can be in it; mendix-mesh explain "
    "ingress shows how",
    source="linkerd.io tasks/using-ingress; Mendix on Kubernetes: networking",
)
_INGRESS, _GATEWAY = "networking.k8s.io/v1", "gateway.networking.k8s.io/v1"
_ROUTER = controller_of("", "openshift.io/ingress-to-route")


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each class of an Ingress or HTTPRoute whose controller is outside the mesh."""
    for title, controller in {**_ingresses(facts, place), **_routes(facts, place)}.items():
        if not controller.names:
            yield Occurrence(f"{title} is served by {controller.title}, which can't be in the mesh")
            continue
        # The finding ingress-host-network is about pods on the node's network.
        pods = [
            pod
            for pod in facts.outside(controller, place.mesh.name)
            if not (pod.spec and pod.spec.host_network)
        ]
        for namespace in sorted({pod.namespace for pod in pods}):
            names = listed(sorted(pod.name for pod in pods if pod.namespace == namespace), 1)
            yield Occurrence(
                f"{title} is served by {controller.title}, whose pod {namespace}/{names} is "
                "outside the mesh"
            )


def _ingresses(facts: Facts, place: Place) -> dict[str, Controller]:
    """Return the known controllers of the namespace's Ingresses, by title."""
    stored = facts.objects(path(_INGRESS, "ingresses", place.name))
    used = {class_of(convert(one)) for one in stored}
    if not used:
        return {}
    classes = facts.objects(path(_INGRESS, "ingressclasses"))
    controllers = {one["metadata"]["name"]: one["spec"].get("controller") for one in classes}
    found = {name: controller_of(name, controllers.get(name)) for name in sorted(used)}
    return {f"ingress class {name}": one for name, one in found.items() if one}


def _routes(facts: Facts, place: Place) -> dict[str, Controller]:
    """Return the known controllers of the namespace's HTTPRoutes and Routes, by title."""
    found: dict[str, Controller] = {}
    for route in facts.objects(path(_GATEWAY, "httproutes", place.name)):
        for parent in route["spec"].get("parentRefs") or ():
            name = _gateway_class(facts, parent, place.name)
            kind = facts.get(path(_GATEWAY, "gatewayclasses", name=name)) if name else None
            controller = controller_of("", kind["spec"]["controllerName"]) if kind else None
            if controller:
                found[f"gateway class {name}"] = controller
    if _ROUTER and facts.objects(path("route.openshift.io/v1", "routes", place.name)):
        found["each Route"] = _ROUTER
    return found


def _gateway_class(facts: Facts, parent: Json, namespace: str) -> str:
    """Return the class of the Gateway to which a route is attached; empty if there is none."""
    if parent.get("kind", "Gateway") != "Gateway":
        return ""
    where = path(_GATEWAY, "gateways", parent.get("namespace") or namespace, parent["name"])
    gateway = facts.get(where)
    return gateway["spec"]["gatewayClassName"] if gateway else ""
