"""Istio's own gateways and waypoints, as the real istiod deploys them for Gateways of the API.

Their pods run on simulated nodes without Istio's CNI agent.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from tests.cluster import build, command
from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.command import Command
from tests.cluster.istio import INJECT, IstioCluster
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import ControlPlane, is_ready
from tests.cluster.test_ambient import APP, MODE
from tests.cluster.test_audit import findings, only, states
from tests.cluster.workloads import template_of
from webhook.cluster.api.connection import Cluster
from webhook.cluster.kinds import entrances
from webhook.cluster.kinds.inventory import Inventory, LivePod

VERSION = "gateway.networking.k8s.io/v1"
NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
MANAGED = "gateway.istio.io/managed"
MESHES = ("ambient", "istio")


class Class(NamedTuple):
    """A class of Gateways: the names of its Deployments, and the labels of their pods."""

    name: str
    deployment: str
    managed: str
    listener: Mapping[str, str | int]


GATEWAY = Class("istio", "{}-istio", "istio.io-gateway-controller",
                {"name": "http", "port": 80, "protocol": "HTTP"})  # fmt: skip
#: As `istioctl waypoint generate` writes it.
WAYPOINT = Class("istio-waypoint", "{}", "istio.io-mesh-controller",
                 {"name": "mesh", "port": 15008, "protocol": "HBONE"})  # fmt: skip
CLASSES = {"gateway": GATEWAY, "waypoint": WAYPOINT}


def gateway(namespace: str, kind: str, name: str = "", *, parameters: str = "") -> Json:
    """Return a Gateway of a class; `parameters` names a ConfigMap with changes."""
    of = CLASSES[kind]
    spec: Json = {"gatewayClassName": of.name, "listeners": [of.listener]}
    if parameters:
        reference = {"group": "", "kind": "ConfigMap", "name": parameters}
        spec["infrastructure"] = {"parametersRef": reference}
    metadata = {"name": name or kind, "namespace": namespace}
    return {"apiVersion": VERSION, "kind": "Gateway", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def gateway_api(istio_plane: ControlPlane) -> Iterator[None]:
    """The Gateway API's own CRDs, during this module only, because other tests look for them."""
    folder = str(build.gateway_api_crds())
    istio_plane.kubectl("apply", "--server-side", "--filename", folder)
    wait = ("wait", "--for=condition=Established", "--filename", folder)
    # kubectl fails at once if a CRD has no status yet.
    wait_for(lambda: not istio_plane.kubectl(*wait, check=False).returncode, why="served CRDs")
    yield
    istio_plane.kubectl("delete", "--filename", folder)


@pytest.fixture(scope="module")
def cluster(
    mesh_cluster: MeshCluster, istio_plane: ControlPlane, gateway_api: None
) -> Iterator[IstioCluster]:
    with Istiod(istio_plane, environment={"PILOT_ENABLE_AMBIENT": "true"}) as istiod:
        yield IstioCluster(**vars(mesh_cluster), istiod=istiod)


@pytest.fixture(scope="module")
def api(cluster: IstioCluster) -> Api:
    return cluster.api


@pytest.fixture(scope="module")
def places(cluster: IstioCluster) -> Iterator[dict[str, str]]:
    """By mesh, an enrolled namespace with a ready Gateway of each class."""
    api = cluster.api
    made = {mesh: cluster.enroll("enforce", mesh=mesh) for mesh in MESHES}
    for where in made.values():
        for kind in CLASSES:
            api.create(gateway(where, kind))
    for where in made.values():
        for kind in CLASSES:
            ready_pod(api, where, kind)
    yield made
    # Other tests look for clients from outside the mesh.
    for where in made.values():
        api.delete("Namespace", where)
    left = "gateways to be gone"
    wait_for(lambda: not api.list("Pod", labels=MANAGED), seconds=60, why=left)


@pytest.fixture(scope="module")
def auditor(cluster: IstioCluster) -> Command:
    return command.as_account(cluster.plane, "mendix-mesh-strict")


def ready_pods(api: Api, where: str, name: str, count: int = 1) -> list[Json]:
    """Wait until a Gateway has this number of pods, and all are ready."""

    def up() -> list[Json]:
        found = api.list("Pod", where, labels=f"{NAME_LABEL}={name}")
        return found if len(found) == count and all(map(is_ready, found)) else []

    return wait_for(up, why=f"{count} pods of Gateway {where}/{name}")


def ready_pod(api: Api, where: str, name: str) -> Json:
    (found,) = ready_pods(api, where, name)
    return found


@pytest.fixture(params=MESHES)
def mesh(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CLASSES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_istiod_makes_of_a_gateway_is_admitted_and_left_alone(
    cluster: IstioCluster, places: dict[str, str], mesh: str, kind: str
) -> None:
    api, where = cluster.api, places[mesh]
    name = CLASSES[kind].deployment.format(kind)
    for made in ("Deployment", "ServiceAccount", "Service"):
        (owner,) = api.get(made, name, where)["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Gateway", kind)
    meta = ready_pod(api, where, kind)["metadata"]
    assert [owner["kind"] for owner in meta["ownerReferences"]] == ["ReplicaSet"]
    labels = meta["labels"]
    expected = (CLASSES[kind].managed, "false", "none")
    assert (labels[MANAGED], labels[INJECT], labels[MODE]) == expected
    template = template_of(api.get("Deployment", name, where))
    assert template["metadata"]["labels"].items() <= labels.items()
    for resource, verb, by in (
        ("deployments", "patch", "istiod-default"),
        ("pods", "create", "system:serviceaccount:kube-system:replicaset-controller"),
    ):
        events = [
            event["annotations"]
            for event in cluster.plane.audit(namespace=where, resource=resource)
            if event["verb"] == verb
            and event["user"]["username"] == by
            # A pod that is named by the API server has no name there.
            and event["objectRef"].get("name", name) == name
        ]
        assert f"{mesh}.enforce.mendix-mesh.io/verdict" in events[0]
        patches = [json.loads(text) for one in events for key, text in one.items()
                if key.startswith("mutation.webhook")]  # fmt: skip
        ours = [one["mutated"] for one in patches if one["configuration"] == "00-mendix-mesh"]
        assert ours
        assert not any(ours)


def test_audit_calls_them_meshed(places: dict[str, str], auditor: Command, mesh: str) -> None:
    report = auditor.audit("-n", places[mesh], codes=[0])
    assert states(report) == {"Deployment/gateway-istio": "meshed", "Deployment/waypoint": "meshed"}
    assert only(report)["coverage"] == 100
    assert findings(report) == []


def laid_over(api: Api, where: str, name: str, overlay: Json) -> None:
    """Create the ConfigMap with changes to a Gateway's Deployment."""
    api.create(core("ConfigMap", name, where, data={"deployment": json.dumps({"spec": overlay})}))


def denial(cluster: IstioCluster, where: str, deployment: str) -> str:
    """Wait until a Deployment of istiod is denied, and return the message."""

    def patches() -> str:
        events = cluster.plane.audit(namespace=where, resource="deployments", name=deployment)
        denied = [one["responseStatus"] for one in events if one["responseStatus"]["code"] == 403]
        return str(denied[-1]["message"]) if denied else ""

    return wait_for(patches, why=f"istiod's Deployment to be denied: {where}/{deployment}")


BESIDE: Json = {"containers": [APP]}
#: The API server does not allow the node's network together with a gateway's sysctl.
ON_HOST: Json = {"hostNetwork": True, "securityContext": {"sysctls": None}}


@pytest.mark.parametrize(("check", "spec"), [("opted-out", BESIDE), ("host-network", ON_HOST)])
def test_a_gateway_with_more_than_istios_proxy_is_denied_with_the_reason(
    cluster: IstioCluster, places: dict[str, str], mesh: str, kind: str, check: str, spec: Json
) -> None:
    api, where, name = cluster.api, places[mesh], f"{kind}-{check}"
    laid_over(api, where, name, {"template": {"spec": spec}})
    api.create(gateway(where, kind, name, parameters=name))
    deployment = CLASSES[kind].deployment.format(name)
    first, *lines = denial(cluster, where, deployment).splitlines()
    assert first == (
        f'admission webhook "{mesh}.enforce.mendix-mesh.io" denied the request: deployment '
        f"{deployment} would run outside the {mesh} mesh:"
    )
    said = {line.split()[0]: line for line in lines}
    assert check in said
    assert (
        "opts the pod out of the mesh, which only Istio's own gateways are allowed to do"
        in said["opted-out"]
    )
    thing = {
        "opted-out": "containers[app] is a container beside the proxy",
        "host-network": "the node's network",
    }
    assert thing[check] in said["opted-out"]
    assert "what its parametersRef adds" in said["opted-out"]
    with pytest.raises(StatusError, match="not found"):
        api.get("Deployment", deployment, where)


def remove(api: Api, where: str, kind: str, name: str) -> None:
    """Delete a Gateway and istiod's objects for it, which garbage collection may not know yet."""
    api.delete("Gateway", name, where)
    for made in ("Deployment", "Service"):
        with contextlib.suppress(StatusError):  # It may be gone with the Gateway.
            api.delete(made, CLASSES[kind].deployment.format(name), where)


def test_a_gateway_that_runs_is_not_made_to_run_more(
    cluster: IstioCluster, places: dict[str, str], mesh: str, kind: str
) -> None:
    api, where, name = cluster.api, places[mesh], f"{kind}-later"
    api.create(gateway(where, kind, name))
    before = ready_pod(api, where, name)["metadata"]["uid"]
    laid_over(api, where, name, {"template": {"spec": BESIDE}})
    later = gateway(where, kind, name, parameters=name)["spec"]
    api.patch("Gateway", name, where, {"spec": later})
    assert "opted-out" in denial(cluster, where, CLASSES[kind].deployment.format(name))
    assert ready_pod(api, where, name)["metadata"]["uid"] == before
    remove(api, where, kind, name)


def test_a_gateway_that_is_only_tuned_is_admitted(
    api: Api, places: dict[str, str], mesh: str, kind: str
) -> None:
    where, name = places[mesh], f"{kind}-tuned"
    proxy = {"name": "istio-proxy", "resources": {"requests": {"cpu": "5m"}}}
    spec = {"containers": [proxy], "terminationGracePeriodSeconds": 5}
    template = {"metadata": {"annotations": {"team": "shop"}}, "spec": spec}
    laid_over(api, where, name, {"replicas": 2, "template": template})
    api.create(gateway(where, kind, name, parameters=name))
    for found in ready_pods(api, where, name, count=2):
        assert found["metadata"]["annotations"]["team"] == "shop"
        assert found["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "5m"
    remove(api, where, kind, name)


def test_gateways_are_ways_into_the_cluster_and_waypoints_are_not(
    places: dict[str, str], auditor: Command
) -> None:
    inventory = Inventory(Cluster.connect(str(auditor.kubeconfig)))
    found: dict[str, set[str]] = {where: set() for where in places.values()}
    for one in entrances.pods(inventory):
        if isinstance(one, LivePod) and one.namespace in found:
            found[one.namespace].add((one.metadata.labels or {})[NAME_LABEL])
    for names in found.values():
        assert "gateway" in names
        assert not [name for name in names if name.startswith("waypoint")]
