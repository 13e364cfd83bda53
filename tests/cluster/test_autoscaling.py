"""docs/autoscaling.md: where a proxy's CPU request comes from, and the autoscaler without it."""

import re

import yaml

from tests.cluster import guides
from tests.cluster.api import Api, Json, wait_for
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster
from tests.cluster.workloads import pod
from tests.standins import mendix

PAGE = (guides.ROOT / "docs" / "autoscaling.md").read_text()


def request_of(api: Api, where: str, proxy: str, **annotations: str) -> str:
    """Return the CPU request of the proxy in a pod of a dry run; empty if it has none."""
    marks = {key.replace("__", "."): value for key, value in annotations.items()}
    stored = api.create(pod(where, annotations=marks), dry_run=True)
    every = stored["spec"]["initContainers"] + stored["spec"]["containers"]
    (found,) = (one for one in every if one["name"] == proxy)
    return str(found.get("resources", {}).get("requests", {}).get("cpu", ""))


def test_linkerd_s_proxy_gets_its_request_from_the_namespace_or_the_pod(
    mesh_cluster: MeshCluster,
) -> None:
    api, where = mesh_cluster.api, mesh_cluster.enroll("enforce")
    mesh_cluster.await_judge(where, "linkerd.enforce")
    assert request_of(api, where, "linkerd-proxy") == ""
    own = {"config.linkerd.io/proxy-cpu-request": "30m"}
    assert request_of(api, where, "linkerd-proxy", **own) == "30m"
    (line,) = guides.commands("autoscaling.md", "Set the proxy's request")
    mesh_cluster.plane.kubectl(*line.replace("NAMESPACE", where).split()[1:])

    def has_request() -> bool:
        return request_of(api, where, "linkerd-proxy") == "20m"

    wait_for(has_request, why="the injector to see the namespace's annotation")


def test_istio_s_proxy_gets_its_request_from_the_mesh_or_the_pod(
    istio_cluster: IstioCluster,
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll("enforce")
    istio_cluster.await_judge(where, "istio.enforce")
    cpu, memory = "sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyMemory"
    assert request_of(api, where, "istio-proxy") == "100m"
    assert request_of(api, where, "istio-proxy", **{cpu: "40m"}) == "40m"
    # What the page warns of.
    assert request_of(api, where, "istio-proxy", **{memory: "64Mi"}) == ""
    assert request_of(api, where, "istio-proxy", **{cpu: "40m", memory: "64Mi"}) == "40m"


def test_the_api_server_accepts_the_autoscaler_of_the_page(mesh_cluster: MeshCluster) -> None:
    mendix.install_crds(mesh_cluster.api)
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    scaler: Json = yaml.safe_load(block)
    scaler["metadata"]["namespace"] = mesh_cluster.enroll()
    mesh_cluster.plane.kubectl(
        "apply", "--filename=-", "--validate=strict", input=yaml.safe_dump(scaler)
    )
    stored = mesh_cluster.api.get(
        "HorizontalPodAutoscaler", scaler["metadata"]["name"], scaler["metadata"]["namespace"]
    )
    assert stored["spec"]["metrics"] == scaler["spec"]["metrics"]
