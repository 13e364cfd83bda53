"""A cluster with Istio, and checks of pods that its injector has seen."""

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
#: Labels with which Linkerd's injector skips a namespace. Dry runs there take half the time.
HIDDEN = {"config.linkerd.io/admission-webhooks": "disabled"}


@dataclass(frozen=True)
class IstioCluster(MeshCluster):
    """A cluster with mendix-mesh, and with the real istiod beside Linkerd's stand-in.

    By default, namespaces are enrolled in Istio.
    """

    istiod: Istiod

    def enroll(self, mode: str = "", *, mesh: str = "istio") -> str:
        """Create a new namespace that is enrolled by its labels, and return its name."""
        return super().enroll(mode, mesh=mesh)

    def enroll_for_trials(self) -> str:
        """Create a new enrolled namespace for many dry runs."""
        return self.plane.new_namespace("mendix", labels={MESH_LABEL: "istio", **HIDDEN})


def sidecar_of(obj: Json) -> str:
    """Return the kind of Istio's proxy in a stored pod: native, classic, or "" for none."""
    for shape, place in (("native", "initContainers"), ("classic", "containers")):
        if any(c["name"] == "istio-proxy" for c in obj["spec"].get(place, ())):
            return shape
    return ""


def is_meshed(obj: Json) -> bool:
    """Return whether a stored pod has the proxy, and the label that makes peers use mTLS."""
    labels = obj["metadata"].get("labels", {})
    return bool(sidecar_of(obj)) and labels.get(TLS_MODE) == "istio"


def labels_of(obj: Json) -> Json:
    """Return the labels of an object or a template; empty if it has none."""
    labels: Json = obj["metadata"].get("labels") or {}
    return labels
