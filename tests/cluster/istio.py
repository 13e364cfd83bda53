"""A cluster with Istio on it, and what the tests ask about pods that its injector has seen."""

from dataclasses import dataclass

from tests.cluster.api import Json
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MESH_LABEL, MeshCluster

INJECT = "sidecar.istio.io/inject"
REVISION = "istio.io/rev"
NATIVE = "sidecar.istio.io/nativeSidecar"
CONFIG = "proxy.istio.io/config"
STATUS = "sidecar.istio.io/status"
TLS_MODE = "security.istio.io/tlsMode"
#: Labels of a namespace at which Linkerd's injector does not look: what is only tried there is
#: tried in half the time.
HIDDEN = {"config.linkerd.io/admission-webhooks": "disabled"}


@dataclass(frozen=True)
class IstioCluster(MeshCluster):
    """A cluster on which mendix-mesh is installed, and the real istiod beside Linkerd's stand-in.

    What is enrolled here is enrolled in Istio, where it says nothing else.
    """

    istiod: Istiod

    def enroll(self, mode: str = "", *, mesh: str = "istio") -> str:
        """Make a fresh namespace that is enrolled by its labels, and return its name."""
        return super().enroll(mode, mesh=mesh)

    def enroll_for_trials(self) -> str:
        """Make a fresh enrolled namespace for many dry runs."""
        return self.plane.new_namespace("mendix", labels={MESH_LABEL: "istio", **HIDDEN})


def sidecar_of(obj: Json) -> str:
    """Return in which shape a stored pod has Istio's proxy: native, classic, or "" for none."""
    for shape, place in (("native", "initContainers"), ("classic", "containers")):
        if any(c["name"] == "istio-proxy" for c in obj["spec"].get(place, ())):
            return shape
    return ""


def is_meshed(obj: Json) -> bool:
    """Say whether a stored pod has the proxy, and the label by which peers speak mTLS to it."""
    labels = obj["metadata"].get("labels", {})
    return bool(sidecar_of(obj)) and labels.get(TLS_MODE) == "istio"


def labels_of(obj: Json) -> Json:
    """Return the labels of an object or a template, empty where it has none."""
    labels: Json = obj["metadata"].get("labels") or {}
    return labels
