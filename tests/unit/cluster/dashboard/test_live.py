"""What pages read from the cluster while the user waits."""

import threading
import time

import pytest

from tests.unit.cluster.apiserver import ScriptedServer
from tests.unit.cluster.hospital import Hospital
from tests.unit.cluster.world import gateway, meshed, owned, unmeshed
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.dashboard import live
from webhook.cluster.dashboard.live import Live
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Workload
from webhook.policy.settings import Settings

SHOP = Workload("mendix", "apps/v1", "Deployment", "shop")


def reader(server: ScriptedServer, patience: float = 5.0) -> Live:
    return Live(server.cluster, Judge(Settings()), patience=patience)


def names(found: live.Pods) -> list[str]:
    return [pod.name for pod, _ in found.pods]


@pytest.fixture(autouse=True)
def _pods(world: Hospital) -> None:
    world.pod("mendix", "shop-a", owned(meshed(), "Deployment", "shop"))
    world.pod("mendix", "shop-b", owned(unmeshed(), "Deployment", "shop"))
    world.pod("mendix", "other", unmeshed())


def test_the_selector_of_a_controller_narrows_the_query(
    world: Hospital, server: ScriptedServer
) -> None:
    for name in ("shop-a", "shop-b"):
        world.objects[f"/api/v1/namespaces/mendix/pods/{name}"]["metadata"]["labels"]["app"] = "x"
    world.add(
        "/apis/apps/v1/namespaces/mendix/deployments/shop",
        {"kind": "Deployment", "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {}}},
    )
    assert names(reader(server).pods(SHOP, "linkerd")) == ["shop-a", "shop-b"]
    assert "labelSelector=app%3Dx" in server.targets[-1]


def test_without_the_right_to_see_controllers_all_pods_are_looked_through(
    world: Hospital, server: ScriptedServer
) -> None:
    world.forbidden.append("/apis/apps/v1")
    assert names(reader(server).pods(SHOP, "linkerd")) == ["shop-a", "shop-b"]


def test_a_bare_pod_is_read_by_its_name(server: ScriptedServer) -> None:
    found = reader(server).pods(Workload("mendix", "v1", "Pod", "other"), "linkerd")
    assert names(found) == ["other"]
    assert "fieldSelector=metadata.name%3Dother" in server.targets[-1]


def test_no_more_pods_are_looked_through_than_there_is_room_for(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_PODS", 1)
    found = reader(server).pods(SHOP, "linkerd")
    assert names(found) == ["shop-a"]
    assert found.cut.startswith("only 1 pods")


def test_readers_share_what_was_read_a_moment_ago(server: ScriptedServer) -> None:
    one = reader(server)
    first = one.mendix()
    before = len(server.targets)
    assert (one.mendix(), len(server.targets)) == (first, before)
    assert first == {"mendix", "stray"}


def test_what_is_old_is_read_again(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_FRESH", 0.0)
    one = reader(server)
    one.pods(SHOP, "linkerd")
    before = len(server.targets)
    time.sleep(0.01)
    one.pods(SHOP, "linkerd")
    assert len(server.targets) == 2 * before


def test_what_is_forbidden_is_reported_to_the_user(world: Hospital, server: ScriptedServer) -> None:
    world.forbidden.append("/api/v1/namespaces/mendix/pods")
    one = reader(server)
    for _ in range(2):
        with pytest.raises(StatusError, match="cannot get"):
            one.pods(SHOP, "linkerd")


def test_completion_waits_for_the_api_server_only_for_a_limited_time(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(*_: object) -> list[str]:
        begun.set()
        release.wait(30)
        return ["mendix"]

    monkeypatch.setattr(live, "mendix_namespaces", slow)
    one = reader(server, patience=0.05)
    with pytest.raises(ClusterError, match="did not answer within 0 s"):
        one.mendix()
    assert begun.wait(5)
    release.set()
    patient = reader(server)
    assert patient.mendix() == {"mendix"}


def test_ingress_controllers_are_judged_by_the_mesh_they_serve(
    world: Hospital, server: ScriptedServer
) -> None:
    world.namespace("ingress-nginx")
    pod = meshed()
    pod["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = "ingress-nginx"
    world.pod("ingress-nginx", "controller", pod)
    (found,) = (one for one in reader(server).entrances("linkerd") if one.name == "controller")
    assert (found.namespace, found.state) == ("ingress-nginx", "meshed")


@pytest.mark.parametrize("mesh", ["istio", "ambient"])
def test_istios_gateways_are_entrances_in_the_mesh(
    world: Hospital, server: ScriptedServer, mesh: str
) -> None:
    world.namespace("istio-ingress")
    pod = gateway()
    pod["metadata"].setdefault("labels", {})["istio"] = "ingress"
    world.pod("istio-ingress", "gateway", pod)
    (found,) = (one for one in reader(server).entrances(mesh) if one.name == "gateway")
    assert (found.namespace, found.state) == ("istio-ingress", "meshed")
