"""`make demo WIRE=1`: two apps on real nodes with real proxies, and their packets in words.

It needs root and a few packages of Debian. Without them it says which.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.cluster import build, netns
from tests.cluster.api import wait_for
from tests.image import buildah
from tests.image.buildah import ImageError, Store, wheels
from tests.node.machine import missing
from tests.wire import images
from tests.wire.app import SIZE
from tests.wire.capture import Segment, client_hello, version
from tests.wire.cluster import (
    FAR,
    NEAR,
    PROGRAMS,
    Exchange,
    WireCluster,
    app,
    identity,
    running,
    service,
    url,
)

console = Console(highlight=False, markup=False, soft_wrap=True)


class DemoError(Exception):
    """Raised if the packets do not show what the demo says."""


def main() -> None:
    """Start the cluster and play. Exit with code 1 if it fails, 2 if it can't run here."""
    if reason := missing() or buildah.missing():
        console.print(reason, style="red")
        raise SystemExit(2)
    console.print("\nOn the wire: real nodes, containers and Istio proxies.", style="bold cyan")
    try:
        programs = build.ensure(PROGRAMS, console)
        images.envoy()
        with tempfile.TemporaryDirectory(prefix="mendix-mesh-wire-") as folder:
            place = Path(folder)
            store = Store(place, wheels())
            _say("Building the images (about half a minute) ...")
            image = store.open(store.build())
            netns.enter()
            _say("Starting two nodes, istiod and mendix-mesh (about a minute) ...")
            with running(place, programs, store, image) as cluster:
                play(cluster)
    except (build.BuildError, ImageError, netns.NetworkError) as error:
        console.print(str(error), style="red")
        raise SystemExit(2) from None
    except (DemoError, TimeoutError) as error:
        console.print(f"\nThe demo failed: {error}", style="bold red")
        raise SystemExit(1) from None


def play(cluster: WireCluster) -> None:
    """Show a request between two apps, and the same request from outside the mesh."""
    where = cluster.namespace("enforce", mtls="STRICT")
    front = service(where, "shop")
    cluster.api.create(front)
    _say(f"Two apps in {where}, which mendix-mesh enforces. Their manifests name no mesh.")
    mark = cluster.capture.now
    cluster.account(where, "orders")
    shop, orders, outside = cluster.run(
        app(where, "shop", FAR),
        app(where, "orders", NEAR, serviceAccountName="orders"),
        app(cluster.namespace(), "old", NEAR),
    )
    _say(f"$ kubectl -n {where} get pods", "bold")
    _answer(cluster.plane.kubectl("-n", where, "get", "pods").stdout.strip())
    exchange = cluster.await_answer(orders, shop, url(front))
    packets = cluster.capture.since(mark, orders["status"]["podIP"], shop["status"]["podIP"])
    _say(f"orders sends {SIZE:,} bytes to http://{url(front)}. The cable of the shop's node shows:")
    for line in told(exchange, packets):
        _answer(line)
    if exchange.in_clear or identity(orders) not in exchange.sent.body:
        raise DemoError("the request was not mutual TLS")
    _say("The same request from a pod outside the mesh:")
    address = f"{shop['status']['podIP']}:8080"
    refused = wait_for(lambda: _refused(cluster.call(outside, shop, address)), why="a refusal")
    if not refused.in_clear:
        raise DemoError("the request from outside was not plaintext")
    _answer("plaintext: its headers are readable", good=False)
    _answer(f"the shop's proxy refuses it: {refused.sent.error}", good=False)


def told(exchange: Exchange, packets: Sequence[Segment]) -> list[str]:
    """Return in words what the packets of a connection show, and what the server was told."""
    hello = client_hello(packets)
    if not hello:
        raise DemoError("no TLS connection began")
    named = exchange.sent.headers["x-forwarded-client-cert"]
    parts = dict(part.split("=", 1) for part in named.split(";"))
    amount = "none" if not exchange.in_clear else f"{exchange.in_clear:,}"
    return [
        f"{version(packets)}, SNI {hello.sni}",
        f"client {parts['URI']}, server {parts['By']}",
        f"{amount} of the {SIZE:,} bytes of the request are readable",
    ]


def _refused(exchange: Exchange) -> Exchange | None:
    return exchange if exchange.sent.error else None


def _say(text: str, style: str = "") -> None:
    console.print(f"  {text}", style=style)


def _answer(text: str, *, good: bool = True) -> None:
    for line in text.splitlines():
        console.print(f"    {line}", style="green" if good else "red")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print("\nStopped; the cluster is gone.")
        sys.exit(130)
