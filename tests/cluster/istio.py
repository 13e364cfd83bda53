"""What the tests ask about pods that Istio's injector has seen."""

from tests.cluster.api import Json

INJECT = "sidecar.istio.io/inject"


def sidecar_of(obj: Json) -> str:
    """Return in which shape a stored pod has Istio's proxy: native, classic, or "" for none."""
    for shape, place in (("native", "initContainers"), ("classic", "containers")):
        if any(c["name"] == "istio-proxy" for c in obj["spec"].get(place, ())):
            return shape
    return ""
