"""A namespace of the Mendix Operator in mode enforce: all requests are mutual TLS on the wire."""

import json
from dataclasses import dataclass

import pytest

from tests.cluster.api import Json, wait_for
from tests.cluster.istio import sidecar_of
from tests.cluster.plane import is_ready
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from tests.wire import images
from tests.wire.app import SIZE
from tests.wire.capture import Segment, readable
from tests.wire.cluster import FAR, INGRESS, NEAR, Sent, WireCluster, app, identity, service, url

SERVICE_UPSTREAM = "nginx.ingress.kubernetes.io/service-upstream"
UPSTREAM_VHOST = "nginx.ingress.kubernetes.io/upstream-vhost"
pytestmark = pytest.mark.timeout(300)

ENV = "shop"
TASKS = ("database", "file", "build")


@dataclass(frozen=True)
class Shop:
    """A Mendix app with two replicas on one node, and its clients on the other."""

    apps: list[Json]
    tasks: dict[str, Json]
    storage: Json
    """The pod that the task pods call. It runs on the captured node."""
    ingress: Json
    outside: Json
    """A client without a proxy."""
    service: Json
    client: Json
    """A client in the mesh."""
    packets: list[Segment]
    """All that was sent until the task pods had ended."""


@pytest.fixture(scope="module")
def shop(wire: WireCluster) -> Shop:
    """Have the operator's stand-in create an app, while its task pods call a storage."""
    where, mark = wire.namespace("enforce"), wire.capture.now
    storage = service(wire.namespace("enforce"), "storage")
    wire.api.create(storage)
    (of_storage,) = wire.run(app(storage["metadata"]["namespace"], "storage", FAR))
    _install(wire, where)

    def runnable(spec: Json) -> Json:
        return _runnable(spec, url(storage))

    user = wire.plane.user("mendix-operator", ["system:masters"])
    with mendix.MendixOperator(user, where, runnable).run() as operator:
        wire.api.create(manifests.mendix_app(ENV, where, replicas=2))
        mendix.await_tasks(wire.api, where, ENV)
        labels = f"{manifests.GROUP}/app={ENV}"
        apps = wait_for(lambda: _ready(wire, where, labels), why="two replicas")
        assert operator.denied == {}
    tasks = {name: wire.api.get("Pod", f"{ENV}-{name}", where) for name in TASKS}
    packets = wire.capture.since(mark)
    ingress, outside, client = wire.run(
        _ingress(wire, where),
        app(wire.namespace(), "client", NEAR),
        app(wire.namespace("enforce"), "client", NEAR),
    )
    front = wire.api.get("Service", ENV, where)
    return Shop(apps, tasks, of_storage, ingress, outside, front, client, packets)


def _install(wire: WireCluster, namespace: str) -> None:
    """Create what Mendix's installer creates, without the operator's own pods."""
    mendix.install_crds(wire.api)
    for account in manifests.service_accounts(namespace):
        wire.api.create(account)
    wire.api.create(manifests.operator_configuration(namespace))
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "stringData": {"adminpassword": "x"}}
    wire.api.create({**secret, "metadata": {"name": f"{ENV}-m2ee", "namespace": namespace}})


def _runnable(spec: Json, storage: str) -> Json:
    """Return the spec of one of the operator's pods with a program that this machine has."""
    for container in spec["containers"]:
        container |= {"image": images.APP, "imagePullPolicy": "Never"}
        if container["name"] == "m2ee-sidecar":
            container["args"] = ["serve", "--ports", "8800"]
    if "serviceAccountName" not in spec or spec["serviceAccountName"] == "default":
        return {**spec, "nodeSelector": FAR}
    (container,) = spec["containers"]
    container["args"] = ["task", storage, f"--marker=request-of-{container['name']}"]
    return {**spec, "nodeSelector": NEAR}


def _ready(wire: WireCluster, namespace: str, labels: str) -> list[Json]:
    found = [one for one in wire.api.list("Pod", namespace, labels=labels) if is_ready(one)]
    return found if len(found) == 2 else []


def _ingress(wire: WireCluster, namespace: str) -> Json:
    """Return a controller's pod, which does what the stored Ingress says, as ingress-nginx does."""
    stored = wire.api.get("Ingress", ENV, namespace)["metadata"]["annotations"]
    assert stored[SERVICE_UPSTREAM] == "true"
    host = stored[UPSTREAM_VHOST]
    address = wire.api.get("Service", ENV, namespace)["spec"]["clusterIP"]
    return app(
        wire.namespace("enforce", name=INGRESS), "ingress", NEAR,
        annotations={"traffic.sidecar.istio.io/includeInboundPorts": ""},
        container={"args": ["forward", f"{address}:8080", f"--host={host}"],
                   "readinessProbe": None},
    )  # fmt: skip


def test_the_pods_of_the_operator_have_a_proxy_and_its_tasks_end(shop: Shop) -> None:
    assert [sidecar_of(one) for one in (*shop.apps, *shop.tasks.values())] == ["native"] * 5
    assert {one["status"]["phase"] for one in shop.tasks.values()} == {"Succeeded"}
    assert {one["spec"]["nodeName"] for one in shop.apps} == {"node-1"}


def test_what_the_tasks_sent_was_tls(shop: Shop) -> None:
    storage = shop.storage["status"]["podIP"]
    for name, task in shop.tasks.items():
        pair = {storage, task["status"]["podIP"]}
        sent = [one for one in shop.packets if {one.source[0], one.target[0]} == pair]
        assert sent, f"{name} sent nothing"
        assert all(one.is_tls for one in sent)
    assert readable(shop.packets, "request-of-") == 0


def test_requests_by_the_ingress_are_mutual_tls_to_both_replicas(
    wire: WireCluster, shop: Shop
) -> None:
    address = f"{shop.ingress['status']['podIP']}:8080"
    wire.await_answer(shop.outside, shop.ingress, address)
    mark, answered = wire.capture.now, set()
    for _ in range(20):
        exchange = wire.call(shop.outside, shop.ingress, address)
        # The ingress answers with what the app answered.
        got = Sent(**json.loads(exchange.sent.body))
        answered.add(got.pod)
        assert got.ok
        assert identity(shop.ingress) in got.headers["x-forwarded-client-cert"]
        assert readable(wire.capture.since(mark), exchange.marker) == 0
        if len(answered) == len(shop.apps):
            break
    assert answered == {one["metadata"]["name"] for one in shop.apps}
    for one in shop.apps:
        packets = wire.capture.since(mark, one["status"]["podIP"], shop.ingress["status"]["podIP"])
        assert packets
        assert all(packet.is_tls for packet in packets)


@pytest.mark.parametrize("called", ["the pod", "the Service, with the public host"])
def test_without_those_annotations_an_ingress_controller_sends_plaintext(
    wire: WireCluster, shop: Shop, called: str
) -> None:
    server, meta = shop.apps[0], shop.service["metadata"]
    (rule,) = wire.api.get("Ingress", ENV, meta["namespace"])["spec"]["rules"]
    address = f"{server['status']['podIP']}:8080" if called == "the pod" else url(shop.service)
    mark = wire.capture.now
    exchange = wire.call(shop.ingress, server, address, f"--host={rule['host']}")
    assert exchange.sent.ok
    assert readable(wire.capture.since(mark), exchange.marker) >= SIZE


def test_header_and_statistics_name_both_identities(wire: WireCluster, shop: Shop) -> None:
    namespace = shop.service["metadata"]["namespace"]
    before = {one["metadata"]["name"]: handshakes(wire, one) for one in shop.apps}
    exchange = wire.await_answer(shop.client, shop.apps[0], url(shop.service))
    (server,) = (one for one in shop.apps if one["metadata"]["name"] == exchange.sent.pod)
    named = exchange.sent.headers["x-forwarded-client-cert"]
    assert f"By={identity(server)};" in named
    assert f"URI={identity(shop.client)}" in named
    assert handshakes(wire, server) > before[exchange.sent.pod]
    sent = f"cluster.outbound|8080||{ENV}.{namespace}.svc.cluster.local;.ssl.handshake"
    assert wire.stats(shop.client)[sent] > 0


def handshakes(wire: WireCluster, server: Json) -> int:
    """Return Envoy's count of the connections by TLS 1.3 that a pod accepted."""
    return wire.stats(server).get("listener.0.0.0.0_15006.ssl.versions.TLSv1.3", 0)


def test_strict_closes_plaintext(wire: WireCluster, shop: Shop) -> None:
    server, namespace = shop.apps[0], shop.service["metadata"]["namespace"]
    address = f"{server['status']['podIP']}:8080"
    exchange = wire.call(shop.outside, server, address)
    assert exchange.sent.ok
    assert exchange.in_clear >= SIZE
    assert "x-forwarded-client-cert" not in exchange.sent.headers
    wire.require(namespace, "STRICT")
    wait_for(lambda: wire.call(shop.outside, server, address).sent.error, why="STRICT to be known")
    assert wire.call(shop.client, server, url(shop.service)).sent.ok
    assert wire.stats(server)["listener.0.0.0.0_15006.no_filter_chain_match"] > 0
