"""What admission cannot see, on the wire: each of these is in docs/bypasses.md."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.cluster.api import Json, wait_for
from tests.cluster.istio import NATIVE
from tests.wire import images
from tests.wire.app import SIZE
from tests.wire.capture import readable
from tests.wire.cluster import FAR, NEAR, Exchange, WireCluster, app, service, url

pytestmark = pytest.mark.timeout(300)

#: Root with the capabilities that the runtime gives by default. The check root-capable warns.
ROOT = {"securityContext": {"runAsUser": 0}}
#: Exists while a client keeps its connection open, until it is deleted.
HELD = "/tmp/held"


@dataclass(frozen=True)
class Pair:
    """Two pods in the mesh, of which the client is root, and a client outside."""

    client: Json
    server: Json
    front: Json
    outside: Json

    @property
    def address(self) -> str:
        """The server's own address."""
        return str(self.server["status"]["podIP"])


@pytest.fixture(scope="module")
def pair(wire: WireCluster) -> Pair:
    where = wire.namespace("enforce")
    front = service(where, "server")
    wire.api.create(front)
    ports = {"args": ["serve", "--ports", "8080", "5432", "15008", "22"]}
    server, client, outside = wire.run(
        app(where, "server", FAR, container=ports),
        app(where, "client", NEAR, container=ROOT),
        app(wire.namespace(), "client", NEAR),
    )
    wire.await_answer(client, server, url(front), url(front, 5432))
    return Pair(client, server, front, outside)


@pytest.mark.parametrize("port", [8080, 5432])
def test_a_sidecar_calls_a_pods_address_in_plaintext(
    wire: WireCluster, pair: Pair, port: int
) -> None:
    exchange = wire.call(pair.client, pair.server, f"{pair.address}:{port}")
    assert exchange.sent.ok
    assert exchange.in_clear >= SIZE
    counted = wire.stats(pair.client)["cluster.PassthroughCluster;.upstream_cx_total"]
    assert counted > 0


def test_with_the_services_name_as_host_it_is_mutual_tls(wire: WireCluster, pair: Pair) -> None:
    host = url(pair.front).partition(":")[0]
    exchange = wire.call(pair.client, pair.server, f"{pair.address}:8080", f"--host={host}")
    assert exchange.sent.ok
    assert exchange.in_clear == 0
    assert "x-forwarded-client-cert" in exchange.sent.headers


@pytest.mark.parametrize("becomes", ["--uid=1337", "--gid=1337"])
def test_root_can_become_the_proxys_user_or_group(
    wire: WireCluster, pair: Pair, becomes: str
) -> None:
    exchange = wire.call(pair.client, pair.server, url(pair.front), becomes)
    assert exchange.sent.ok
    assert exchange.in_clear >= SIZE


def test_root_with_net_admin_removes_the_rules(wire: WireCluster, pair: Pair) -> None:
    context = {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}}
    admin = app(wire.namespace("warn"), "admin", NEAR, container={"securityContext": context})
    (client,) = wire.run(admin)
    wire.await_answer(client, pair.server, url(pair.front))
    wire.run_in(client, "mendix", "iptables", "--table=nat", "--flush=OUTPUT")
    exchange = wire.call(client, pair.server, url(pair.front))
    assert exchange.sent.ok
    assert exchange.in_clear >= SIZE


def test_an_init_container_before_a_classic_sidecar_sends_plaintext(
    wire: WireCluster, pair: Pair
) -> None:
    mark, namespace = wire.capture.now, pair.client["metadata"]["namespace"]
    prepare = {
        "name": "prepare",
        "image": images.APP,
        "imagePullPolicy": "Never",
        "args": ["task", f"{pair.address}:8080", "--marker=early-request"],
    }
    wire.run(
        app(namespace, "classic", NEAR, annotations={NATIVE: "false"}, initContainers=[prepare])
    )
    assert readable(wire.capture.since(mark), "early-request") >= SIZE


@pytest.fixture
def permissive_later(wire: WireCluster, pair: Pair) -> Iterator[str]:
    """The namespace of the server. Afterwards it accepts plaintext again."""
    namespace = pair.server["metadata"]["namespace"]
    yield namespace
    wire.require(namespace, "PERMISSIVE")
    wait_for(lambda: plain(wire, pair).sent.ok, why="PERMISSIVE to be known")


def plain(wire: WireCluster, pair: Pair, port: int = 8080, *more: str) -> Exchange:
    """Call the server from outside."""
    return wire.call(pair.outside, pair.server, f"{pair.address}:{port}", *more)


def test_connections_from_before_strict_stay_open(
    wire: WireCluster, pair: Pair, permissive_later: str
) -> None:
    def in_python(code: str) -> str:
        return wire.run_in(pair.outside, "mendix", "python3", "-c", f"import os; {code}").strip()

    wait_for(lambda: plain(wire, pair).sent.ok, why="plaintext to be accepted")
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(plain, wire, pair, 8080, "--times=2", f"--held={HELD}")
        exists = f"print(os.path.exists({HELD!r}))"
        wait_for(lambda: in_python(exists) == "True", why="the first answer")
        wire.require(permissive_later, "STRICT")
        wait_for(lambda: plain(wire, pair).sent.error, why="STRICT to be known")
        in_python(f"os.remove({HELD!r})")
    assert kept.result().sent.statuses == [200, 200]
    assert kept.result().in_clear >= 2 * SIZE


def test_port_15008_is_never_captured_and_port_22_is(
    wire: WireCluster, pair: Pair, permissive_later: str
) -> None:
    wire.require(permissive_later, "STRICT")
    wait_for(lambda: plain(wire, pair).sent.error, why="STRICT to be known")
    assert plain(wire, pair, 15008).sent.ok
    assert plain(wire, pair, 22).sent.error
