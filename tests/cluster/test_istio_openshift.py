"""Istio on OpenShift, which gives each namespace's pods their own range of users."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.api import Json, StatusError
from tests.cluster.istio import INJECT, NATIVE, IstioCluster, is_meshed
from tests.cluster.istiod import HUB, TAG, Istiod
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod

APP: Json = {"name": "app", "image": "registry.example.com/shop:1"}
MIRROR = "registry.example.com:5000/ossm"


@dataclass(frozen=True)
class OpenShift:
    """A namespace of OpenShift, which gives its pods a user from the namespace's range."""

    cluster: IstioCluster
    namespace: str
    app_user = 1000650000
    proxy_user = 1000659999

    def pod(self, **fields: Any) -> Json:
        whole = {"runAsUser": self.app_user, "fsGroup": self.app_user}
        return pod(self.namespace, **{"securityContext": whole, "containers": [APP], **fields})

    def tried(self, **fields: Any) -> Json:
        return self.cluster.api.create(self.pod(**fields), dry_run=True)


@pytest.fixture(scope="module")
def openshift(istio_plane: ControlPlane, mesh_cluster: MeshCluster) -> Iterator[OpenShift]:
    """Istio as on OpenShift: users by namespace, a CNI plugin by Multus; and images of a mirror."""
    values = {
        "global": {"hub": MIRROR},
        "pilot": {"cni": {"enabled": True, "provider": "multus"}},
    }
    environment = {"PLATFORM": "openshift"}
    with Istiod(istio_plane, revision="ossm", values=values, environment=environment) as istiod:
        cluster = IstioCluster(**vars(mesh_cluster), istiod=istiod)
        where = cluster.enroll("enforce")
        ranges = {"uid-range": "1000650000/10000", "supplemental-groups": "1000650000/10000"}
        annotations = {f"openshift.io/sa.scc.{name}": value for name, value in ranges.items()}
        cluster.api.patch("Namespace", where, None, {"metadata": {"annotations": annotations}})
        made = OpenShift(cluster, where)
        settings = {
            "optOut": "override",
            "istio": {"revision": "ossm", "proxyUid": None, "proxyImages": [f"{MIRROR}/proxyv2"]},
        }

        def works() -> bool:
            return not cluster.api.denial(made.pod())

        with configured(mesh_cluster, {"settings": settings}, works):
            yield made


@pytest.mark.parametrize("native", ["true", "false"])
def test_on_openshift_the_proxy_has_a_user_of_the_namespace(
    openshift: OpenShift, native: str
) -> None:
    stored = openshift.tried(annotations={NATIVE: native})
    assert is_meshed(stored)
    everything = stored["spec"]["initContainers"] + stored["spec"]["containers"]
    (proxy,) = [c for c in everything if c["name"] == "istio-proxy"]
    assert proxy["securityContext"]["runAsUser"] == openshift.proxy_user
    assert proxy["image"].startswith(f"{MIRROR}/proxyv2:")
    assert everything[0]["name"] == "istio-validation"


def test_on_openshift_an_app_must_not_run_as_that_user(openshift: OpenShift) -> None:
    context = {"runAsUser": openshift.proxy_user}
    with pytest.raises(StatusError, match=r"proxy-uid +spec\.containers\[app\]"):
        openshift.tried(containers=[{**APP, "securityContext": context}])


def test_on_openshift_an_image_of_istios_own_registry_is_not_the_mirrors(
    openshift: OpenShift,
) -> None:
    requested = {"sidecar.istio.io/proxyImage": f"{HUB}/proxyv2:{TAG}"}
    with pytest.raises(StatusError, match="proxy-image-untrusted"):
        openshift.tried(annotations=requested)


def test_if_the_settings_override_an_opt_out_the_pod_joins(openshift: OpenShift) -> None:
    assert is_meshed(openshift.tried(labels={INJECT: "false"}))
    assert is_meshed(openshift.tried(annotations={INJECT: "false"}))
