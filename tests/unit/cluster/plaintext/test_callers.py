"""The callers that are cut off when a namespace is closed to plaintext."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster import mendix
from tests.unit.cluster.world import Json, World, gateway, meshed, owned, unmeshed
from webhook.cluster.judge import Judge
from webhook.cluster.plaintext.callers import Caller, CutOff, cut_off
from webhook.policy.settings import Settings

HERE = "mendix"
GATEWAY_ROUTE = "gateway.networking.k8s.io/v1/httproutes"


def world(mesh: str = "linkerd") -> World:
    """A namespace that is completely in the mesh, with its own operator, and an Ingress."""
    made = World()
    made.namespace(HERE, mesh)
    made.pod(HERE, "mendix-operator-1", owned(meshed(mesh), "Deployment", "mendix-operator"))
    made.pod(HERE, "shop-1", owned(meshed(mesh), "Deployment", "shop"))
    return made


def ask(made: World, folder: Path, mesh: str = "linkerd") -> CutOff:
    with made.serving(folder) as server:
        return cut_off(server.cluster, Judge(Settings()), HERE, mesh)


def callers(made: World, folder: Path, mesh: str = "linkerd") -> list[Caller]:
    found = ask(made, folder, mesh)
    assert found.unknown == []
    return found.callers


def named(pod: Json, name: str) -> Json:
    pod["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = name
    return pod


def labelled(pod: Json, labels: dict[str, str]) -> Json:
    pod["metadata"].setdefault("labels", {}).update(labels)
    return pod


def ingress(made: World) -> None:
    made.add(f"/apis/networking.k8s.io/v1/namespaces/{HERE}/ingresses/shop", {})


@pytest.mark.parametrize("mesh", ["linkerd", "istio", "ambient"])
def test_if_all_pods_are_in_the_mesh_no_caller_is_outside(tmp_path: Path, mesh: str) -> None:
    made = world(mesh)
    ingress(made)
    made.pod("edge", "c", owned(named(meshed(mesh), "ingress-nginx"), "Deployment", "controller"))
    assert callers(made, tmp_path, mesh) == []


def test_neighbours_outside_the_mesh_are_named_once_a_workload(tmp_path: Path) -> None:
    made = world()
    for number in range(3):
        made.pod(HERE, f"old-{number}", owned(unmeshed(), "Deployment", "old"))
    (one,) = callers(made, tmp_path)
    assert one.who == "Deployment mendix/old"
    assert one.fix == "mendix-mesh restart -n mendix"


def test_no_restart_is_advised_for_a_neighbour_without_a_controller(tmp_path: Path) -> None:
    made = world()
    made.pod(HERE, "by-hand", unmeshed())
    (one,) = callers(made, tmp_path)
    assert one.who == "Pod mendix/by-hand"
    assert one.fix == "recreate the pod; no controller will"


def test_an_ingress_controller_outside_is_named_if_there_are_ingresses(tmp_path: Path) -> None:
    made = world()
    made.pod("edge", "c", owned(named(unmeshed(), "ingress-nginx"), "Deployment", "controller"))
    assert callers(made, tmp_path) == []
    ingress(made)
    (one,) = callers(made, tmp_path)
    assert one.who == "ingress controller Deployment edge/controller"
    assert one.why == "routes clients to the namespace's apps and is outside the mesh"


def test_a_caller_on_the_nodes_network_is_reported_as_such(tmp_path: Path) -> None:
    made = world()
    ingress(made)
    pod = named(unmeshed(), "ingress-nginx")
    pod["spec"]["hostNetwork"] = True
    made.pod("edge", "c", owned(pod, "DaemonSet", "controller"))
    (one,) = callers(made, tmp_path)
    assert one.why.endswith("uses hostNetwork")


def test_ingresses_without_a_controller_that_is_known_are_reported(tmp_path: Path) -> None:
    made = world()
    ingress(made)
    (one,) = callers(made, tmp_path)
    assert one.who == "the controller of the namespace's Ingresses or HTTPRoutes"


@pytest.mark.parametrize(
    "labels",
    [
        {"istio": "ingressgateway"}, {"istio": "ingress"},
        {"gateway.istio.io/managed": "istio.io-gateway-controller"},
        {"istio": "ingress", "app.kubernetes.io/name": "traefik"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["networking.k8s.io/v1/ingresses", GATEWAY_ROUTE])
def test_istios_gateways_are_known_and_in_the_mesh(
    tmp_path: Path, labels: dict[str, str], route: str
) -> None:
    made = world("istio")
    group, _, kind = route.rpartition("/")
    made.add(f"/apis/{group}/namespaces/{HERE}/{kind}/shop", {})
    made.pod("edge", "gateway", labelled(gateway(), labels))
    assert callers(made, tmp_path, "istio") == []
    made.pod("edge", "other", labelled(unmeshed("istio"), labels))
    (one,) = callers(made, tmp_path, "istio")
    assert one.who == "ingress controller Pod edge/other"


def own_gateway(made: World) -> None:
    """A Gateway of the namespace as istiod deploys it, with its Service."""
    labels = {"gateway.istio.io/managed": "istio.io-gateway-controller",
              "gateway.networking.k8s.io/gateway-name": "edge"}  # fmt: skip
    pod = labelled(gateway(), labels)
    scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020"}
    pod["metadata"].setdefault("annotations", {}).update(scrape)
    made.pod(HERE, "edge-1", owned(pod, "Deployment", "edge-istio"))
    selector = {"gateway.networking.k8s.io/gateway-name": "edge"}
    spec = {"type": "LoadBalancer", "selector": selector}
    made.add(f"/api/v1/namespaces/{HERE}/services/edge-istio", {"spec": spec})


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_no_client_is_cut_off_from_a_gateway_of_the_namespace(tmp_path: Path, mesh: str) -> None:
    made = world(mesh)
    own_gateway(made)
    group, _, kind = GATEWAY_ROUTE.rpartition("/")
    made.add(f"/apis/{group}/namespaces/{HERE}/{kind}/shop", {})
    prometheus = owned(named(unmeshed(mesh), "prometheus"), "StatefulSet", "prometheus")
    made.pod("monitoring", "p", prometheus)
    assert callers(made, tmp_path, mesh) == []


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_a_service_that_leads_to_apps_beside_a_gateway_is_reported(
    tmp_path: Path, mesh: str
) -> None:
    made = world(mesh)
    own_gateway(made)
    shop = made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-1"]["metadata"]
    shop.setdefault("labels", {})["gateway.networking.k8s.io/gateway-name"] = "edge"
    (one,) = callers(made, tmp_path, mesh)
    assert one.who == "clients outside the cluster, through Service edge-istio"


@pytest.mark.parametrize(
    ("spec", "cut"),
    [
        ({"type": "ClusterIP", "selector": {"app": "shop"}}, False),
        ({"type": "LoadBalancer", "selector": {"app": "shop"}}, True),
        ({"type": "NodePort", "selector": {"app": "shop"}}, True),
        ({"selector": {"app": "shop"}, "externalIPs": ["192.0.2.1"]}, True),
        ({"type": "LoadBalancer"}, False),
        ({"type": "ExternalName", "externalName": "db.example.com"}, False),
    ],
)
def test_services_that_lead_straight_to_pods(
    tmp_path: Path, spec: dict[str, Any], cut: bool
) -> None:
    made = world()
    made.add(f"/api/v1/namespaces/{HERE}/services/shop", {"spec": spec})
    found = [one.who for one in callers(made, tmp_path)]
    assert found == (["clients outside the cluster, through Service shop"] if cut else [])


def scraped(made: World, port: str = "8900") -> None:
    marks = made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-1"]["metadata"]
    marks.setdefault("annotations", {})
    marks["annotations"] |= {"prometheus.io/scrape": "true", "prometheus.io/port": port}


def test_prometheus_is_named_if_pods_ask_to_be_scraped(tmp_path: Path) -> None:
    made = world()
    made.pod("monitoring", "p", owned(named(unmeshed(), "prometheus"), "StatefulSet", "prometheus"))
    assert callers(made, tmp_path) == []
    scraped(made)
    (one,) = callers(made, tmp_path)
    assert one.who == "StatefulSet monitoring/prometheus"


def test_istio_s_merged_metrics_are_served_past_the_proxy(tmp_path: Path) -> None:
    made = world("istio")
    pod = named(unmeshed("istio"), "prometheus")
    made.pod("monitoring", "p", owned(pod, "StatefulSet", "prometheus"))
    scraped(made, "15020")
    assert callers(made, tmp_path, "istio") == []
    where = f"/apis/monitoring.coreos.com/v1/namespaces/{HERE}/podmonitors/apps"
    made.add(where, {})
    assert len(callers(made, tmp_path, "istio")) == 1


def test_probes_are_cut_off_only_if_istio_must_not_rewrite_them(tmp_path: Path) -> None:
    made = world("istio")
    meta = made.objects[f"/api/v1/namespaces/{HERE}/pods/shop-1"]["metadata"]
    meta["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = "false"
    (one,) = callers(made, tmp_path, "istio")
    assert one.who == "the kubelet, for probes of Deployment mendix/shop"


def test_an_operator_in_another_namespace_is_named_unless_it_is_meshed(tmp_path: Path) -> None:
    made = world()
    del made.objects[f"/api/v1/namespaces/{HERE}/pods/mendix-operator-1"]
    mendix.operator(made, "main")
    assert callers(made, tmp_path) == []
    made.pod("main", "mendix-operator-9", owned(unmeshed(), "Deployment", "mendix-operator"))
    (one,) = callers(made, tmp_path)
    assert one.who == "Deployment main/mendix-operator"
    made.pod("main", "mendix-operator-9", owned(meshed(), "Deployment", "mendix-operator"))
    assert callers(made, tmp_path) == []


def test_a_pod_that_its_node_redirects_is_in_the_mesh_whatever_its_labels(tmp_path: Path) -> None:
    made = world("istio")
    pod = unmeshed("istio")
    pod["metadata"].setdefault("annotations", {})["ambient.istio.io/redirection"] = "enabled"
    made.pod(HERE, "z", pod)
    assert callers(made, tmp_path, "istio") == []


def test_forbidden_reads_are_reported(tmp_path: Path) -> None:
    made = world()
    made.forbidden = ["/api/v1/namespaces/mendix/services", "/apis/networking.k8s.io"]
    found = ask(made, tmp_path)
    assert not found.is_nobody
    assert [line.split(":")[0] for line in found.unknown] == [
        "Services that are reachable from outside the cluster", "ingress controllers",
    ]  # fmt: skip
